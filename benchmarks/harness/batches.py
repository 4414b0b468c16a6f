"""Batches that tell which samples they are of, for methods that keep something for every sample."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of the training data.

    Attributes:
        inputs: (B, ...), augmented; the first view.
        labels: (B,) int64, as given.
        indices: (B,) int64, dataset indices.
        views: further augmentations of the same samples, each (B, ...).
    """

    inputs: Tensor
    labels: Tensor
    indices: Tensor
    views: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return self._with(lambda part: part.to(device, non_blocking=True))

    def select(self, rows: Tensor) -> "Batch":
        """Return the batch of some of its rows, by their places (b,) or by a mask (B,)."""
        return self._with(lambda part: part[rows])

    def _with(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        views = tuple(function(view) for view in self.views)
        return Batch(function(self.inputs), function(self.labels), function(self.indices), views)


class IndexedSamples(Dataset[Any]):
    """A dataset of (inputs, label) that gives (inputs of every view, label, index).

    Args:
        dataset: the samples.
        num_views: how often each is augmented.
    """

    def __init__(self, dataset: Any, num_views: int = 1) -> None:
        self._dataset, self._num_views = dataset, num_views

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[tuple[Any, ...], int, int]]:
        """Return samples, fetched together where the dataset can."""
        views = [self._fetch(indices) for _ in range(self._num_views)]
        return [
            (tuple(inputs for inputs, _ in samples), samples[0][1], index)
            for *samples, index in zip(*views, indices, strict=True)
        ]

    def _fetch(self, indices: Sequence[int]) -> Sequence[Any]:
        if hasattr(self._dataset, "__getitems__"):
            fetched: Sequence[Any] = self._dataset.__getitems__(indices)
            return fetched
        return [self._dataset[index] for index in indices]


def as_batch(samples: Sequence[Any]) -> Batch:
    """Collate samples of `IndexedSamples`."""
    views, labels, indices = default_collate(list(samples))
    return Batch(views[0], labels, indices, tuple(views[1:]))


Batches = DataLoader[Batch]
