"""The training set in batches, in order, for a scan."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np


class ScanBatches:
    """Batches of some of the dataset's indices; of several processes, each gets every n-th batch.

    The batches are the same however many processes share them, and so are their numbers, from which random draws are
    derived: what a scan says of a sample does not depend on how many there are.

    Args:
        indices: (n,) int64.
        batch_size: samples a batch; the last may have fewer.
    """

    def __init__(self, batch_size: int, *, seed: int = 0) -> None:
        self._indices = np.empty(0, dtype=np.int64)
        self._batch_size = batch_size
        self._rank, self._num_processes = 0, 1

    def share(self, indices: np.ndarray, rank: int, num_processes: int, *, batch_of: Any = None) -> None:
        """Set what the next pass goes over.

        Args:
            indices: (n,) int64, of all processes.
            rank: which process this is, from 0.
            num_processes: how many share the batches.
        """
        self._indices = indices
        self._rank, self._num_processes = rank, num_processes

    def __len__(self) -> int:
        """Return this process's number of batches."""
        return len(self._numbers())

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each batch's number among those of all processes, and its indices."""
        for number in self._numbers():
            yield number, self._indices[number * self._batch_size : (number + 1) * self._batch_size]

    def own_indices(self) -> np.ndarray:
        """Return the indices of all of this process's batches."""
        return np.concatenate([self._indices[:0], *(indices for _, indices in self)])

    def _numbers(self) -> range:
        return range(self._rank, math.ceil(len(self._indices) / self._batch_size), self._num_processes)
