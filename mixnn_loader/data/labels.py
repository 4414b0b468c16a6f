"""What a batch holds for labels -> class indices."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


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
    if len(indices) == 0 and shape == (0,):  # of an empty batch, whatever type the labels of no sample have
        return torch.empty(0, dtype=torch.int64, device="cpu")
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
            "0..C-1, give the model C outputs, and leave samples without a label out (torch.utils.data.Subset). If "
            "that is another part of the sample than its label, say by unpack= which part is the label"
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
        remedy = (
            "for one-hot labels use their argmax, and leave mixup and CutMix out of collate_fn: the loader mixes "
            "itself. Several labels a sample, or one a pixel, are not supported"
        )
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
    if isinstance(labels, Tensor) and labels.is_floating_point() and bool((labels != labels.round()).any()):
        return (
            "MixNN is for classes: continuous targets, as of a regression, are not supported; encode values that stand "
            "for classes once for the whole dataset, values, encoded = torch.unique(labels, return_inverse=True)"
        )
    return (
        "encode them as 0..C-1: int(label) where they are whole numbers, or once for the whole dataset "
        "values, encoded = torch.unique(labels, return_inverse=True)"
    )
