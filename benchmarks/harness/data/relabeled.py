"""A dataset with other labels, such as noisy ones."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Relabeled(Dataset[tuple[Any, int]]):
    """The samples of a dataset of (inputs, label) with other labels.

    Args:
        dataset: the samples.
        targets: N class indices, which take the place of the labels.

    Attributes:
        targets: (N,) int64.

    Raises:
        ValueError: there are not as many targets as samples.
    """

    def __init__(self, dataset: Any, targets: Sequence[int] | Tensor) -> None:
        self._dataset = dataset
        self.targets = torch.as_tensor(targets, dtype=torch.int64)
        if len(self.targets) != len(dataset):
            raise ValueError(f"there must be a target for each of the {len(dataset)} samples, got {len(self.targets)}")

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self._dataset[index][0], int(self.targets[index])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, int]]:
        """Return samples, fetched together where the dataset can."""
        if hasattr(self._dataset, "__getitems__"):
            samples = self._dataset.__getitems__(indices)
        else:
            samples = [self._dataset[index] for index in indices]
        return [
            (inputs, label) for (inputs, _), label in zip(samples, self.targets[list(indices)].tolist(), strict=True)
        ]
