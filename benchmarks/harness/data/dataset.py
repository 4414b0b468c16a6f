"""What the harness needs to know of a dataset."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.harness.recipes import Recipe

MOST_HELD_OUT = 10_000


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


def split_rows(labels: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Return the rows of a training set to train on, and those held out to measure on.

    Args:
        labels: (N,) int64, of the whole training set.
        recipe: how many to take, and whether to hold some out.

    Raises:
        ValueError: some are to be held out, and none are left.
    """
    rows = torch.arange(len(labels))
    if (labels.diff() >= 0).all():
        # Images that are read file by file come class after class: the first so many would be of one.
        rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    size = len(labels) if recipe.num_train is None else recipe.num_train
    if recipe.held_out and size >= len(labels):
        raise ValueError(f"held_out needs a num_train below {len(labels)}, the training samples that there are")
    return rows[:size], rows[size:][: MOST_HELD_OUT if recipe.held_out else 0]


def required(root: Path | None) -> Path:
    """Return the folder or file of the data.

    Raises:
        ValueError: none was given.
    """
    if root is None:
        raise ValueError("pass --data-dir, the folder that holds the dataset (for features: the file)")
    return root
