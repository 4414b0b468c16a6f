"""The training set in batches, in an order of its own, for a scan."""

from collections.abc import Iterator

import numpy as np

from mixnn_loader._utils.random_state import Stream, derived_rng


class ScanBatches:
    """Batches of some of the dataset's indices; of several processes, each gets every n-th batch.

    Datasets are often sorted by class, and a network that normalizes by its batch would take a batch of one class for
    something else than it is: the samples come in a random order. The batches are the same in every epoch and however
    many processes share them, and so are their numbers, from which random draws are derived: what a scan says of a
    sample depends on neither.

    Args:
        indices: (n,) int64.
        batch_size: samples a batch; the last may have fewer.
        seed: of the order.
    """

    def __init__(self, indices: np.ndarray, batch_size: int, *, seed: int = 0) -> None:
        self._batch_size = batch_size
        self._seed = seed
        self.share(indices, 0, 1)

    def share(self, indices: np.ndarray, rank: int, num_processes: int, *, batch_of: np.ndarray | None = None) -> None:
        """Set what the next pass goes over.

        Args:
            indices: (n,) int64, of all processes.
            rank: which process this is, from 0.
            num_processes: how many share the batches.
            batch_of: (N,) int64, for samples that only the user's own batches put together rightly, such as sequences
                of one length: the number of the batch in which each sample of the dataset was last drawn, -1 if in
                none. Samples of one number make one batch, however many; those of none are batched among themselves.
                Two processes must not have given one number to different batches.
        """
        self._rank, self._num_processes = rank, num_processes
        rng = derived_rng(self._seed, 0, 0, Stream.SCAN_ORDER)
        shuffled = indices[rng.permutation(len(indices))]
        numbers = np.full(len(indices), -1) if batch_of is None else batch_of[shuffled]
        by_number = np.argsort(numbers, kind="stable")  # those of none first, in their random order
        num_loose = int((numbers < 0).sum())
        _, firsts = np.unique(numbers[by_number][num_loose:], return_index=True)
        starts = np.concatenate([np.arange(0, num_loose, self._batch_size), num_loose + firsts])
        self._indices = shuffled[by_number]
        self._bounds = np.stack([starts, np.append(starts[1:], len(indices))[: len(starts)]], axis=1)
        if batch_of is not None:  # otherwise their samples come at random, and only the last is a smaller one
            self._bounds = self._bounds[rng.permutation(len(starts))]

    def __len__(self) -> int:
        """Return this process's number of batches."""
        return len(self._numbers())

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each batch's number among those of all processes, and its indices."""
        for number in self._numbers():
            start, stop = self._bounds[number]
            yield number, self._indices[start:stop]

    def own_indices(self) -> np.ndarray:
        """Return the indices of all of this process's batches, in their order."""
        return np.concatenate([self._indices[:0], *(indices for _, indices in self)])

    def _numbers(self) -> range:
        return range(self._rank, len(self._bounds), self._num_processes)
