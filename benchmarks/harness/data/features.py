"""Representations of a frozen backbone, as practitioners do it."""

from pathlib import Path

import torch

from benchmarks.harness.data.dataset import Data, required
from benchmarks.harness.recipes import Recipe
from mixnn_loader.datasets.in_memory import InMemoryDataset


def features(root: Path | None, recipe: Recipe) -> Data:
    """Representations of a frozen backbone, from a file that `torch.load` reads.

    A dict of ``train`` (N, d) and ``test`` (M, d) floating-point, ``labels`` (N,) and ``test_labels`` (M,) true class
    indices and, if there are any, ``given`` (N,) noisy labels that come with the data.
    """
    parts = torch.load(required(root), weights_only=True)
    if missing := sorted({"train", "test", "labels", "test_labels"} - set(parts)):
        raise ValueError(
            f"{root} must hold a dict with train, labels, test and test_labels; it has no {', '.join(missing)}"
        )
    train, labels = parts["train"].float()[: recipe.num_train], parts["labels"].long()[: recipe.num_train]
    samples = InMemoryDataset(train, labels)
    given = parts.get("given")
    return Data(
        samples,
        samples,
        InMemoryDataset(parts["test"].float(), parts["test_labels"]),
        labels,
        1 + max(int(parts[name].max()) for name in ("labels", "test_labels")),  # also where num_train leaves some out
        tuple(train.shape[1:]),
        given=None if given is None else given.long()[: recipe.num_train],
    )
