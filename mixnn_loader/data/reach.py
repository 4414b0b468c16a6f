"""Everything that iterating an object of the user's may change: what hangs on it, on its class and on its functions."""

import itertools
import sys
import types
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixnn_loader._utils.generators import GENERATORS, set_state, state_of

_LEAVES = (bool, int, float, complex, str, bytes, type(None), np.generic)


class Reach:
    """The generators and values that can be reached from an object, as they are now.

    A deep copy has attributes of its own, but shares those of its class, the global variables that its methods use and
    their default arguments. A generator that is found there is put back by `restore`; of all else, `is_as_before` tells
    whether it has changed.

    Args:
        root: where to start.
        without: objects to pass by, such as the dataset.
    """

    def __init__(self, root: Any, without: Iterable[Any]) -> None:
        self._root = root
        self._without = list(without)
        parts = [root, *getattr(root, "__dict__", {}).values()]
        self._packages = {_package_of(type(part)) for part in parts} - {"torch", "numpy", *sys.stdlib_module_names}
        self._packages |= {"__main__"} & {_package_of(type(part)) for part in parts}
        found = list(self._walk())
        self._generators = [(entry, state_of(entry)) for entry in found if isinstance(entry, GENERATORS)]
        self._values = [_value(entry) for entry in found]

    def restore(self) -> None:
        """Put the generators back."""
        for generator, state in self._generators:
            set_state(generator, state)

    def is_as_before(self) -> bool:
        """Whether everything apart from generators is what it was."""
        return [_value(entry) for entry in self._walk()] == self._values

    def _walk(self) -> Iterator[Any]:
        """Give the root and all below it, in an order that depends only on how they hang together."""
        seen = {id(entry): entry for entry in self._without}
        waiting = [self._root]
        while waiting:
            entry = waiting.pop()
            if isinstance(entry, _LEAVES):
                yield entry
            elif id(entry) not in seen:
                seen[id(entry)] = entry
                yield entry
                waiting += self._below(entry)

    def _below(self, entry: Any) -> Iterable[Any]:
        """List what hangs on one object; of its code, only the user's and not that of other packages."""
        if isinstance(entry, (*GENERATORS, Tensor, np.ndarray, types.ModuleType)):
            return []
        if isinstance(entry, types.FunctionType):
            return _variables_of(entry) if _package_of(entry) in self._packages else []
        if isinstance(entry, type):
            return [*entry.__bases__, *_parts_of(entry)] if _package_of(entry) in self._packages else []
        if isinstance(entry, Mapping):
            return [*entry, *entry.values()]
        if isinstance(entry, (list, tuple, deque, Set)):
            return [part for part in entry if not isinstance(part, _LEAVES)]
        if isinstance(entry, (types.MethodType, staticmethod, classmethod)):
            return [entry.__func__, getattr(entry, "__self__", None)]
        if isinstance(entry, property):
            return [entry.fget]
        attributes = (
            [] if _package_of(type(entry)) in sys.stdlib_module_names else getattr(entry, "__dict__", {}).values()
        )
        return [*attributes, type(entry)]


def _package_of(code: Any) -> str:
    return str(getattr(code, "__module__", None)).partition(".")[0]


def _parts_of(cls: type) -> list[Any]:
    """List a class's methods and attributes, without what Python itself notes there as it runs."""
    parts = vars(cls).items()
    return [part for name, part in parts if not name.startswith("__") or isinstance(part, types.FunctionType)]


def _variables_of(function: types.FunctionType) -> list[Any]:
    """List a function's default arguments, and the variables around it that it uses."""
    cells = [cell for cell in function.__closure__ or () if cell != types.CellType()]  # without those not yet filled
    found = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    found += [cell.cell_contents for cell in cells]
    codes = [function.__code__]
    for code in codes:
        codes += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
        for name in code.co_names:
            variable = function.__globals__.get(name)
            found.append(variable)
            if isinstance(variable, types.ModuleType) and _package_of(variable) not in sys.stdlib_module_names:
                found += [vars(variable).get(attribute) for attribute in code.co_names]
    return found


def _value(entry: Any) -> Any:
    """Return something that tells whether the object itself has changed, whatever hangs on it."""
    if isinstance(entry, (*_LEAVES, itertools.count)):
        return repr(entry)
    if isinstance(entry, (list, tuple, deque)):
        return len(entry), hash(tuple(part for part in entry if isinstance(part, _LEAVES)))
    if isinstance(entry, Set):
        return len(entry), hash(frozenset(part for part in entry if isinstance(part, _LEAVES)))
    if isinstance(entry, Tensor) and entry.device.type == "cpu" and entry.layout == torch.strided:
        entry = entry.detach().reshape(-1).contiguous().view(torch.uint8).numpy()
    if isinstance(entry, np.ndarray) and entry.dtype != object:
        return entry.shape, zlib.crc32(entry.tobytes())
    return type(entry).__qualname__
