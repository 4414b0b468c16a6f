"""What a dataset tells of its samples besides inputs and labels: their files, and the names of their classes."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from torch.utils.data import ConcatDataset

_LISTS_OF_FILES = ("samples", "imgs", "_image_files", "_images", "_samples", "paths")
"""Attributes of datasets of images: files, or pairs of a file and a label."""


def sample_paths(dataset: Any) -> list[str] | None:
    """Return the file of every sample, relative to the dataset's root where it lies below it; None: it knows none.

    Looked at are ``samples``, ``imgs``, ``_image_files``, ``_images`` and ``_samples``, which torchvision's datasets
    have, ``paths``, a column ``path`` of a Hugging Face dataset, and what is inside a `torch.utils.data.Subset`, a
    `torch.utils.data.ConcatDataset` or a wrapper that keeps its dataset as ``dataset``.
    """
    if isinstance(dataset, ConcatDataset):
        parts = [sample_paths(part) for part in dataset.datasets]
        return None if any(part is None for part in parts) else [path for part in parts for path in part or []]
    inner, chosen = getattr(dataset, "dataset", None), getattr(dataset, "indices", None)
    if inner is not None and chosen is not None and len(chosen) == len(dataset):  # Subset, CorrectedLabels
        paths = sample_paths(inner)
        return None if paths is None else [paths[index] for index in chosen]
    length = len(dataset)
    found = _column(dataset)
    for name in _LISTS_OF_FILES:
        if found is None:
            found = _files(getattr(dataset, name, None), getattr(dataset, "root", None))
    if found is not None and len(found) == length:
        root = getattr(dataset, "root", None)
        return [_below(path, root) for path in found]
    is_wrapper = inner is not None and hasattr(inner, "__len__") and len(inner) == length
    return sample_paths(inner) if is_wrapper else None


def class_names(dataset: Any) -> list[str] | None:
    """Return the names of the classes, in the order of the labels; None: the dataset has none."""
    if isinstance(dataset, ConcatDataset):
        return class_names(dataset.datasets[0])
    names = getattr(dataset, "classes", None)
    if names is None:
        features = getattr(dataset, "features", None)
        label = features.get("label", features.get("labels")) if isinstance(features, dict) else None
        names = getattr(label, "names", None)
    if isinstance(names, (list, tuple)):
        return [name if isinstance(name, str) else str(name) for name in names]
    inner = getattr(dataset, "dataset", None)
    return None if inner is None or inner is dataset else class_names(inner)


def _column(dataset: Any) -> list[str] | None:
    """Return the column of paths of a Hugging Face dataset."""
    if "path" not in (getattr(dataset, "column_names", None) or ()):
        return None
    return [str(path) for path in dataset["path"]]


def _files(entries: Any, root: Any) -> list[str] | None:
    """Return files from a list of them, or of pairs of a file and more; texts are files if the first one exists."""
    if not isinstance(entries, Sequence) or isinstance(entries, str) or len(entries) == 0:
        return None
    first = [entry[0] if isinstance(entry, (tuple, list)) and len(entry) > 0 else entry for entry in entries]
    if not all(isinstance(file, (str, PurePath)) for file in first):
        return None
    if isinstance(first[0], str):
        places = [Path(first[0]), *([Path(root, first[0])] if isinstance(root, (str, PurePath)) else [])]
        try:
            if not any(place.exists() for place in places):
                return None
        except (OSError, ValueError):  # too long for a path, or with a zero byte
            return None
    return [str(file) for file in first]


def _below(path: str, root: Any) -> str:
    """Return a path relative to a root that it lies below, with slashes; another as it is."""
    if isinstance(root, (str, PurePath)) and Path(path).is_relative_to(root):
        return Path(path).relative_to(root).as_posix()
    return Path(path).as_posix()
