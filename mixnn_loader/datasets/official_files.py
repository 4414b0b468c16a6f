"""Datasets of small images that torchvision reads from their official files, kept as one tensor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from mixnn_loader.datasets.image_list import StrPath
from mixnn_loader.datasets.in_memory import BatchTransform, InMemoryDataset, images_of

Split = Literal["train", "test"]


def read_official(
    kind: Callable[..., Any], root: StrPath, split: str, transform: BatchTransform | None, layout: str
) -> InMemoryDataset:
    """Read one of torchvision's in-memory datasets.

    Args:
        kind: its class, such as `torchvision.datasets.CIFAR10`.
        root: what the class takes as its root.
        split: ``"train"`` or ``"test"``.
        transform: what batches go through, see `InMemoryDataset`.
        layout: what is expected below ``root``, for the message of an error.

    Raises:
        FileNotFoundError: a file is missing, or not as it was published.
        ValueError: the split is unknown.
    """
    check_split(split)
    root = Path(root).expanduser()
    try:
        dataset = kind(root, train=split == "train", download=False)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # a file that is missing, cut off or another one fails in torchvision in as many ways
        raise FileNotFoundError(
            f"{root} does not hold the files of this dataset as they were published; {layout}"
        ) from error
    return InMemoryDataset(images_of(dataset), dataset.targets, transform)


def check_split(split: str) -> None:
    """Raise a `ValueError` unless a split is ``"train"`` or ``"test"``."""
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')
