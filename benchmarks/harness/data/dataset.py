"""What the harness needs to know of a dataset."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.harness.recipes import Recipe


@dataclass(frozen=True)
class Data:
    """A dataset, ready to be trained on.

    Attributes:
        train: (inputs, label) with the augmentation of training.
        scan: the same samples in the same order without augmentation.
        test: samples to measure accuracy on, with true labels.
        labels: (N,) int64, labels of the training samples: true ones, if `are_true`.
        num_classes: C.
        shape: of an input.
        are_true: whether `labels` are the true ones, so that noise can be added and known.
        given: (N,) int64, noisy labels that come with the data, as from human annotators; None: none.
        more_tests: further test sets by name, with true labels.
    """

    train: Dataset[Any]
    scan: Dataset[Any]
    test: Dataset[Any]
    labels: Tensor
    num_classes: int
    shape: tuple[int, ...]
    are_true: bool = True
    given: Tensor | None = None
    more_tests: Mapping[str, Dataset[Any]] = field(default_factory=dict)


Loader = Callable[[Path | None, Recipe], Data]
"""``(folder that holds the data, recipe) -> dataset``."""


def required(root: Path | None) -> Path:
    """Return the folder or file of the data.

    Raises:
        ValueError: none was given.
    """
    if root is None:
        raise ValueError("pass --data-dir, the folder that holds the dataset (for features: the file)")
    return root
