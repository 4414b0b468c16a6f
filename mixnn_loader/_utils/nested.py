"""One function over every tensor of a nest: a tensor, or a tuple, list or dict of nests."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor

Path: TypeAlias = tuple[Any, ...]
"""Keys of mappings, names of fields, and places in tuples and lists."""


def map_tensors(function: Callable[[Tensor], Tensor], nest: Any) -> Any:
    """Apply ``function`` to every tensor of ``nest`` in tuples, lists and dicts like the nest's.

    Args:
        function: called once a tensor.
        nest: a tensor, or a tuple, named tuple, list or dict of nests.

    Returns:
        A new nest of the same structure; ``nest`` itself is not changed.

    Raises:
        TypeError: a leaf is not a tensor.

    Example:
        >>> import torch
        >>> map_tensors(torch.neg, {"a": torch.tensor([1.0]), "b": (torch.tensor([2.0]),)})
        {'a': tensor([-1.]), 'b': (tensor([-2.]),)}
    """
    return map_with_paths(lambda _, tensor: function(tensor), nest)


def map_with_paths(function: Callable[[Path, Tensor], Tensor], nest: Any, path: Path = ()) -> Any:
    """Apply ``function`` to every tensor of ``nest`` and its path, else as `map_tensors`.

    Args:
        function: called once a tensor, with the keys, names of fields and places that lead to it.
        nest: a tensor, or a tuple, named tuple, list or dict of nests.
        path: what leads to the nest.

    Returns:
        A new nest of the same structure.

    Raises:
        TypeError: a leaf is not a tensor.

    Example:
        >>> import torch
        >>> _ = map_with_paths(lambda path, tensor: print(path) or tensor, {"a": (torch.zeros(1), torch.ones(1))})
        ('a', 0)
        ('a', 1)
    """
    if isinstance(nest, Tensor):
        return function(path, nest)
    if isinstance(nest, Mapping):
        return {key: map_with_paths(function, value, (*path, key)) for key, value in nest.items()}
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        named = zip(nest._fields, nest, strict=True)
        return type(nest)(*(map_with_paths(function, value, (*path, name)) for name, value in named))
    if isinstance(nest, (tuple, list)):
        return type(nest)(map_with_paths(function, value, (*path, place)) for place, value in enumerate(nest))
    raise TypeError(
        f"inputs must be a tensor or a tuple, list or dict of tensors, got a {type(nest).__name__} among them; "
        "pass unpack= to pick the tensors out of the batch"
    )


def tensors_of(nest: Any) -> list[Tensor]:
    """List the tensors of a nest, in the order in which `map_tensors` meets them.

    Raises:
        TypeError: a leaf is not a tensor.
    """
    return list(tensors_with_paths(nest).values())


def tensors_with_paths(nest: Any) -> dict[Path, Tensor]:
    """Return the tensors of a nest by their paths, in that order.

    Raises:
        TypeError: a leaf is not a tensor.
    """
    found: dict[Path, Tensor] = {}

    def collect(path: Path, tensor: Tensor) -> Tensor:
        found[path] = tensor
        return tensor

    map_with_paths(collect, nest)
    return found
