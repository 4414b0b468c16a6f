"""A collated batch -> its inputs and its labels."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

INPUT_NAMES = ("image", "img", "pixel_values")
LABEL_NAMES = ("label", "labels")
"""What the columns of image datasets are called on the Hugging Face Hub, and by its image processors."""

Unpack = Callable[[Any], tuple[Any, Any]]
"""``collated batch -> (inputs, labels)``."""


def resolve_unpack(unpack: Unpack | tuple[Hashable, Hashable] | None) -> Unpack:
    """Turn the user's ``unpack`` argument into a function.

    Args:
        unpack: a function ``batch -> (inputs, labels)`` of the collated batch; or the two keys (or positions) of
            inputs and labels in it, such as ``("image", "label")``; or None for batches ``(inputs, labels, ...)``, and
            for mappings with one of `INPUT_NAMES` and one of `LABEL_NAMES`.

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
        labels = _as_integers(labels)
    shape = _shape(labels)
    if len(shape) > 1:  # before the type: one-hot labels may well be floats
        raise ValueError(_of_another_shape(shape, indices))
    if not isinstance(labels, Tensor) or not _holds_integers(labels):
        raise ValueError(
            f"labels must be integer class indices, got {_described(labels)} (first at dataset index "
            f"{int(indices[0])}); {_encoding(labels)}"
        )
    if shape != indices.shape:
        raise ValueError(_of_another_shape(shape, indices))
    checked = labels.to("cpu", torch.int64)
    upper = torch.iinfo(torch.int64).max if num_classes is None else num_classes
    wrong = ((checked < 0) | (checked >= upper)).nonzero()
    if len(wrong) > 0:
        row = int(wrong[0])
        allowed = ">= 0" if num_classes is None else f"in 0..{num_classes - 1}, the model's output width"
        raise ValueError(
            f"label {int(checked[row])} at dataset index {int(indices[row])} must be {allowed}; encode labels as "
            "0..C-1, give the model C outputs, and leave samples without a label out (torch.utils.data.Subset)"
        )
    return checked


def _as_integers(labels: Any) -> Any:
    """Make an int64 tensor of an array or list of integers; return anything else as it is."""
    try:
        array = np.asarray(labels)
    except ValueError:  # lists of several lengths
        return labels
    return torch.from_numpy(array.astype(np.int64)) if array.dtype.kind in "iu" else labels


def _shape(labels: Any) -> tuple[int, ...]:
    """Return the shape of labels of any kind, () where they have none."""
    if not isinstance(labels, (list, tuple)):
        return tuple(getattr(labels, "shape", ()))
    try:
        return np.shape(labels)
    except ValueError:  # lists of several lengths
        return (len(labels),)


def _of_another_shape(shape: tuple[int, ...], indices: Tensor) -> str:
    """Say that labels of this shape are not one a sample, and how to make them so."""
    if len(shape) < 2:
        remedy = "return one label a sample from the dataset and from collate_fn"
    elif all(size == 1 for size in shape[1:]):
        drop = "label.squeeze(-1)" if len(shape) == 2 else "label.reshape(())"
        remedy = f"drop the last dimension{'s' * (len(shape) > 2)}, {drop} in the dataset"
    else:
        remedy = "for one-hot labels use their argmax; several labels a sample are not supported"
    return (
        f"labels must hold one class index a sample, shape {tuple(indices.shape)}, got {shape} "
        f"(first at dataset index {int(indices[0])}); {remedy}"
    )


def _holds_integers(labels: Tensor) -> bool:
    return not labels.is_floating_point() and not labels.is_complex() and labels.dtype != torch.bool


def _described(labels: Any) -> str:
    """Name the labels' type and the first of them."""
    if isinstance(labels, Tensor):
        return f"{labels.dtype}, such as {labels.flatten()[0].item()!r}" if labels.numel() > 0 else str(labels.dtype)
    if isinstance(labels, (list, tuple, np.ndarray)) and len(labels) > 0:
        return f"{type(labels).__name__} of {type(labels[0]).__name__}, such as {labels[0]!r}"
    return type(labels).__name__


def _encoding(labels: Any) -> str:
    """Say how to make class indices of labels of this kind."""
    first = labels[0] if isinstance(labels, (list, tuple, np.ndarray)) and len(labels) > 0 else None
    if isinstance(first, str):
        return (
            "encode them once for the whole dataset, as 0..C-1 in the order of their names: "
            "names, encoded = numpy.unique(labels, return_inverse=True)"
        )
    if isinstance(first, (bool, np.bool_)) or (isinstance(labels, Tensor) and labels.dtype == torch.bool):
        return "return int(label) from the dataset, 0 for False and 1 for True"
    return (
        "encode them as 0..C-1: int(label) where they are whole numbers, or once for the whole dataset "
        "values, encoded = torch.unique(labels, return_inverse=True)"
    )


def _first_two(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        inputs = [name for name in INPUT_NAMES if name in batch]
        labels = [name for name in LABEL_NAMES if name in batch]
        if len(inputs) == len(labels) == 1:
            return batch[inputs[0]], batch[labels[0]]
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
