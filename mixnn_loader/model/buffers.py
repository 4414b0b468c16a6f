"""The buffers that a forward pass in eval mode writes, such as a running mean or an observer's range: put back."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mixnn_loader._utils.log import logger
from mixnn_loader._utils.warn import warn_user


class Missing(Enum):
    """What is in the place of a buffer that its module does not have."""

    MISSING = "missing"


_MISSING = Missing.MISSING


class Place(NamedTuple):
    """Where a buffer is.

    Attributes:
        name: its dotted name in the model.
        module: whose it is.
        buffers: that module's own buffers by their short names; a buffer may be None.
        key: its short name.
    """

    name: str
    module: nn.Module
    buffers: dict[str, Tensor | None]
    key: str


class WrittenBuffers:
    """Puts the buffers back that a model's forward pass writes in eval mode.

    Hardly any model writes one. Which it does, the first pass tells: all buffers are saved before it, and compared and
    put back after it, which waits for the device. From then on only those are saved that were written. That no
    other one is written later is seen from PyTorch's counters of writes, which takes neither time nor memory.

    Args:
        model: the unwrapped model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._places: list[Place] | None = None
        self._written: set[str] = set()  # in place, by name
        self._named: set[str] = set()

    def recheck(self) -> None:
        """Compare all buffers around the next pass: the model may be another by now."""
        self._places = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Put the buffers back on leaving.

        Warns:
            RuntimeWarning: one was written that earlier passes left alone, and so was not saved.
        """
        finds = self._places is None
        if finds:
            self._written = set()
        places = list(_places(self._model)) if self._places is None else self._places
        attributes = {module: dict(vars(module)) for module in self._model.modules()} if finds else {}
        before = [_at(place) for place in places]
        counts = [_writes(buffer) for buffer in before]
        saved = {
            place.name: buffer.detach().clone()
            for place, buffer in zip(places, before, strict=True)
            if isinstance(buffer, Tensor) and (finds or place.name in self._written)
        }
        complete = False
        try:
            yield
            complete = True
        finally:
            assigned: set[str] = set()
            lost: set[str] = set()
            for place, buffer, count in zip(places, before, counts, strict=True):
                if self._put_back(place, buffer, attributes):
                    assigned.add(place.name)
                if not isinstance(buffer, Tensor):
                    continue
                kept = saved.get(place.name)
                if kept is None and _writes(buffer) != count:
                    lost.add(place.name)
                elif kept is not None and (not finds or _writes(buffer) != count or not _equal(buffer, kept)):
                    self._written.add(place.name)
                    _write(buffer, kept)
            if finds:
                known = {place.name for place in places}
                new = [place for place in _places(self._model) if place.name not in known]
                places += new
                assigned |= {place.name for place in new if self._put_back(place, _MISSING, attributes)}
            self._written |= lost
            self._places = places if complete else None  # what a pass that failed did not come to is still unknown
            self._tell(assigned | self._written, lost)

    def _put_back(
        self, place: Place, buffer: Tensor | Missing | None, attributes: dict[nn.Module, dict[str, Any]]
    ) -> bool:
        """Make a buffer that was assigned in the pass the tensor that it was before; say whether it was and is.

        One that has come into being or has grown together with a plain attribute of its module is a cache, and the
        attribute may say how long: the two have to stay together.
        """
        now = _at(place)
        if now is buffer:
            return False
        same_shape = isinstance(buffer, Tensor) and isinstance(now, Tensor) and buffer.shape == now.shape
        alone = place.module in attributes and _same_attributes(place.module, attributes[place.module])
        if not same_shape and not alone and place.name not in self._named:
            logger.info("the model's forward pass has filled its buffer %r, a cache, which is left to it", place.name)
            return False
        if isinstance(buffer, Missing):
            del place.buffers[place.key]
        else:
            place.buffers[place.key] = buffer
        return True

    def _tell(self, written: set[str], lost: set[str]) -> None:
        new = sorted(written - self._named)
        self._named |= written
        if lost:
            warn_user(
                f"the model's forward pass has written its buffers {', '.join(map(repr, sorted(lost)))} in eval mode, "
                "as no pass before has: they keep what the loader's own pass wrote, and are put back from now on",
                RuntimeWarning,
            )
        elif new:
            logger.info(
                "the model's forward pass writes its buffers %s in eval mode: they are put back after each pass of "
                "the loader's own",
                ", ".join(map(repr, new)),
            )


def _places(model: nn.Module) -> Iterator[Place]:
    for prefix, module in model.named_modules():
        buffers: dict[str, Tensor | None] = vars(module)["_buffers"]  # unlike named_buffers(), with those that are None
        for key in list(buffers.keys()):  # a scripted module's have no iterator
            yield Place(f"{prefix}.{key}" if prefix else key, module, buffers, key)


def _at(place: Place) -> Tensor | Missing | None:
    """Return the buffer that is there now; a scripted module's have no ``get``."""
    if place.key not in place.buffers:
        return _MISSING
    return place.buffers[place.key]


def _writes(buffer: Tensor | Missing | None) -> int:
    """Return how often a tensor has been written, by PyTorch's count; 0 where there is none, as in inference mode.

    What is written through ``.data`` is not counted.
    """
    return int(getattr(buffer, "_version", 0)) if isinstance(buffer, Tensor) and not buffer.is_inference() else 0


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if one.is_meta or one.is_quantized or one.layout != torch.strided:
        return True  # by all that can be told
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _write(buffer: Tensor, saved: Tensor) -> None:
    with torch.no_grad():
        if buffer.shape != saved.shape:
            buffer.resize_(saved.shape)
        buffer.copy_(saved)


def _same_attributes(module: nn.Module, before: dict[str, Any]) -> bool:
    now = vars(module)
    return now.keys() == before.keys() and all(now[name] is value for name, value in before.items())
