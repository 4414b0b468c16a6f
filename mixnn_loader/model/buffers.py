"""The buffers that a forward pass in eval mode writes, such as a running mean or an observer's range: put back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def own_buffers(model: nn.Module) -> Iterator[None]:
    """Give the model copies of its buffers to write, and its own back on leaving, whatever became of the copies.

    What has another shape afterwards, in a module of which a plain attribute has changed, too, is a cache and its
    length: these stay together.

    Args:
        model: the unwrapped model.
    """
    copies: dict[int, Tensor] = {}  # a buffer that modules share stays one
    kept = []
    for module in model.modules():
        buffers: dict[str, Tensor | None] = vars(module)["_buffers"]
        kept.append((module, buffers, {key: buffers[key] for key in list(buffers.keys())}, dict(vars(module))))
    for _, buffers, before, _ in kept:
        for key, buffer in before.items():
            if buffer is not None:
                buffers[key] = copies.setdefault(id(buffer), buffer.detach().clone())
    try:
        yield
    finally:
        for module, buffers, before, attributes in kept:
            is_cache = not _same_attributes(module, attributes)
            for key in list(buffers.keys()):
                was = before.get(key)
                if is_cache and _shape(buffers[key]) != _shape(was):
                    continue
                if key in before:
                    buffers[key] = was
                else:
                    del buffers[key]
            for key in before.keys() - buffers.keys():
                buffers[key] = before[key]


def _shape(buffer: Tensor | None) -> Any:
    return None if buffer is None else buffer.shape


def _same_attributes(module: nn.Module, before: dict[str, Any]) -> bool:
    now = vars(module)
    return now.keys() == before.keys() and all(now[name] is value for name, value in before.items())
