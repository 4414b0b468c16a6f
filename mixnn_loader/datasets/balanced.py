"""Epochs of a fixed number of batches in which every class comes as often as every other."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Sampler

from mixnn_loader._utils.checks import check_count
from mixnn_loader._utils.integers import as_integers


class ClassBalancedBatchSampler(BatchSampler):
    """So many batches an epoch, in which the classes come equally often, such as Clothing1M's 2,000 batches of 64.

    What an epoch has of a class is drawn anew each time, and without repetition until the class is used up; then from
    all of its samples again. The order is random: the classes are balanced over the epoch, and in a batch about so.

        sampler = ClassBalancedBatchSampler(dataset.targets, 64, 2_000, generator=torch.Generator().manual_seed(0))
        loader = MixNNDataLoader(DataLoader(dataset, batch_sampler=sampler), model)

    Args:
        labels: (N,) class indices of the dataset's samples, noisy as they are.
        batch_size: B.
        num_batches: batches an epoch, of B samples each.
        generator: what is drawn from; None: a new one each epoch, seeded from PyTorch's global one.

    Raises:
        TypeError: labels are not integers.
        ValueError: there are no labels, or a number is below one.
    """

    def __init__(
        self, labels: Any, batch_size: int, num_batches: int, *, generator: torch.Generator | None = None
    ) -> None:
        check_count("batch_size", batch_size, 1)
        check_count("num_batches", num_batches, 1)
        order = BalancedOrder(as_integers("labels", labels), batch_size * num_batches, generator)
        # With PyTorch's own batches of another order, whoever knows PyTorch's batch sampler knows this one.
        super().__init__(order, batch_size, drop_last=False)


class BalancedOrder(Sampler[int]):
    """So many dataset indices an epoch, of all classes equally many, in random order."""

    def __init__(self, labels: npt.NDArray[np.int64], num_samples: int, generator: torch.Generator | None) -> None:
        if labels.ndim != 1 or len(labels) == 0:
            raise ValueError(f"labels must have shape (N,) with N >= 1, got {labels.shape}")
        self._classes = [torch.from_numpy(np.flatnonzero(labels == label)) for label in np.unique(labels)]
        self._num_samples = num_samples
        self.generator = generator

    def __len__(self) -> int:
        return self._num_samples

    def members(self) -> np.ndarray:
        """Return the dataset indices that may be drawn, (N,) int64."""
        return torch.cat(self._classes).numpy()

    def __iter__(self) -> Iterator[int]:
        generator = self.generator
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64, device="cpu").random_()))
        share, rest = divmod(self._num_samples, len(self._classes))
        # Which classes get the samples that cannot be divided equally.
        extra = torch.randperm(len(self._classes), generator=generator, device="cpu") < rest
        parts = [
            _draw(members, share + int(has_extra), generator)
            for members, has_extra in zip(self._classes, extra, strict=True)
        ]
        drawn = torch.cat(parts)
        yield from drawn[torch.randperm(len(drawn), generator=generator, device="cpu")].tolist()


def _draw(members: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw so many of some indices, all of them equally often or once more than others, (count,) int64."""
    rounds = -(-count // len(members))
    drawn = [members[torch.randperm(len(members), generator=generator, device="cpu")] for _ in range(rounds)]
    return torch.cat([*drawn, members[:0]])[:count]
