"""A collated batch -> its inputs and its labels."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_INTEGER_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

Unpack = Callable[[Any], tuple[Any, Any]]
"""``collated batch -> (inputs, labels)``."""


def resolve_unpack(unpack: Unpack | tuple[Hashable, Hashable] | None) -> Unpack:
    """Turn the user's ``unpack`` argument into a function.

    Args:
        unpack: a function ``batch -> (inputs, labels)`` of the collated batch; or the two keys (or positions) of
            inputs and labels in it, such as ``("image", "label")``; or None for batches ``(inputs, labels, ...)``.

    Raises:
        TypeError: it is none of these.
    """
    if unpack is None:
        return _first_two
    if callable(unpack):
        return unpack
    if isinstance(unpack, (tuple, list)) and len(unpack) == 2:
        inputs_key, labels_key = unpack
        return lambda batch: (_pick(batch, inputs_key), _pick(batch, labels_key))
    raise TypeError(
        "unpack must be a function batch -> (inputs, labels) or a pair of keys such as ('image', 'label'), got "
        f"{unpack!r}"
    )


def class_labels(labels: Any, indices: Tensor, num_classes: int | None = None) -> Tensor:
    """Check that labels are class indices.

    Args:
        labels: what the batch holds for labels: (B,) integers, as a tensor, an array or a list.
        indices: (B,) int64, the samples' rows in the dataset, for the message.
        num_classes: C; None: only the sign is checked.

    Returns:
        (B,) int64 on the CPU.

    Raises:
        ValueError: with the first offending dataset index.
    """
    if isinstance(labels, (list, tuple, np.ndarray)):
        array = np.asarray(labels)
        labels = torch.from_numpy(array.astype(np.int64)) if array.dtype.kind in "iu" else labels
    if not isinstance(labels, Tensor) or labels.dtype not in _INTEGER_TYPES:
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(
            f"labels must be integer class indices, got {kind} (first at dataset index {int(indices[0])}); "
            "encode them as 0..C-1"
        )
    if labels.shape != indices.shape:
        raise ValueError(
            f"labels must hold one class index a sample, shape {tuple(indices.shape)}, got {tuple(labels.shape)} "
            f"(first at dataset index {int(indices[0])}); for one-hot labels use their argmax"
        )
    checked = labels.to("cpu", torch.int64)
    upper = torch.iinfo(torch.int64).max if num_classes is None else num_classes
    wrong = ((checked < 0) | (checked >= upper)).nonzero()
    if len(wrong) > 0:
        row = int(wrong[0])
        allowed = ">= 0" if num_classes is None else f"in 0..{num_classes - 1}, the model's output width"
        raise ValueError(f"label {int(checked[row])} at dataset index {int(indices[row])} must be {allowed}")
    return checked


def _first_two(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        raise TypeError(
            f"the samples are mappings with the keys {list(batch)}; pass unpack=, the pair of keys of inputs and "
            "labels, such as unpack=('image', 'label')"
        )
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise TypeError(
            f"samples must be (inputs, label, ...), got a batch of type {type(batch).__name__}; pass unpack=, a "
            "function batch -> (inputs, labels)"
        )
    return batch[0], batch[1]


def _pick(batch: Any, key: Hashable) -> Any:
    try:
        if isinstance(batch, Tensor):
            raise TypeError("a tensor has no keys")
        return batch[key]
    except (KeyError, IndexError, TypeError) as error:
        known = f"its keys are {list(batch)}" if isinstance(batch, Mapping) else f"it is a {type(batch).__name__}"
        raise TypeError(f"unpack={key!r} is not in the batch; {known}") from error
