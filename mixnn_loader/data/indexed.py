"""Indices in, samples out: a loader like the user's that also brings each sample's index and its neighbors.

The batch sampler lives in the main process and decides everything; workers only see lists of indices, so that
workers that stay alive between epochs never hold stale state.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mixnn_loader._utils.random_state import Stream, derived_rng, forked_random_state

COPIED_ARGUMENTS = (
    "num_workers",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "generator",
    "prefetch_factor",
    "persistent_workers",
    "pin_memory_device",
    "in_order",
)
"""DataLoader arguments that the inner loader takes over as they are."""

REPLACED_ARGUMENTS = (
    "dataset",
    "batch_size",
    "shuffle",
    "sampler",
    "batch_sampler",
    "drop_last",
    "collate_fn",
)
"""DataLoader arguments that say which samples come; the inner loader gets them wrapped or through the sampler."""


class IndexBatch(NamedTuple):
    """What a worker is asked for: B samples and their K neighbors, by dataset index.

    Attributes:
        number: the batch's place in the pass, from 0.
        groups: (B, K+1) int64, each sample (column 0) and its neighbors.
        seed: seeds the random transforms of the samples; None: they draw from the random streams as they are.
        neighbor_seed: seeds the random transforms of the neighbors.
    """

    number: int
    groups: np.ndarray
    seed: int | None
    neighbor_seed: int


class LoadedBatch(NamedTuple):
    """What a worker sends back.

    Attributes:
        number: the batch's place in the pass, from 0.
        groups: (B, K+1) int64, dataset indices of each sample (column 0) and its neighbors.
        samples: what the user's ``collate_fn`` made of the B·(K+1) samples: the B originals first, then the
            neighbors, those of one original next to each other.
    """

    number: int
    groups: Tensor
    samples: Any


def in_loaded_order(groups: Any) -> Any:
    """List (B, K+1) dataset indices in the order of the samples of a `LoadedBatch`, (B·(K+1),); NumPy's or PyTorch's.

    Example:
        >>> in_loaded_order(np.array([[3, 30, 31], [4, 40, 41]])).tolist()
        [3, 4, 30, 31, 40, 41]
    """
    join = torch.cat if isinstance(groups, Tensor) else np.concatenate
    return join([groups[:, 0], groups[:, 1:].reshape(-1)])


DrawNeighbors = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""``(indices (B,), generator) -> (B, K)`` dataset indices of the neighbors to be loaded with a batch."""


def nobody(indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw no neighbors: (B, 0)."""
    del rng
    return np.empty((len(indices), 0), dtype=np.int64)


class NumberedBatches(Protocol):
    """Gives the batches of a pass: each one's number in the epoch, and its dataset indices (B,) int64."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]: ...


class NeighborBatchSampler(Sampler[IndexBatch]):
    """Batches in the order in which they come, with neighbors added.

    Args:
        batches: the samples of each batch.
        seed: of the random draws of neighbors.
        reseeds: whether the samples' own random transforms are seeded, too, so that they depend neither on the user's
            random streams nor on what a worker did before.
    """

    def __init__(self, batches: NumberedBatches, seed: int, *, reseeds: bool = False) -> None:
        self._batches = batches
        self._seed = seed
        self._reseeds = reseeds
        self._epoch = 0
        self._offset = 0
        self._draw: DrawNeighbors = nobody

    def begin_epoch(self, epoch: int, draw: DrawNeighbors = nobody, *, offset: int = 0) -> None:
        """Set where the neighbors of the next batches come from.

        Args:
            epoch: its number.
            draw: draws the neighbors.
            offset: a batch's number in the pass minus its number in the epoch.
        """
        self._epoch, self._draw, self._offset = epoch, draw, offset

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[IndexBatch]:
        for number, indices in self._batches:
            rng = derived_rng(self._seed, self._epoch, number - self._offset, Stream.NEIGHBORS)
            neighbors, neighbor_seed = self._draw(indices, rng), int(rng.integers(2**32))
            seed = int(rng.integers(2**32)) if self._reseeds else None
            yield IndexBatch(number, np.concatenate([indices[:, None], neighbors], axis=1), seed, neighbor_seed)


class IndexedDataset(Dataset[Any]):
    """The user's dataset, answering an `IndexBatch` with the samples and the batch's own indices.

    The neighbors' random transforms draw from a generator state of their own, so that the originals get the same
    augmentations as without neighbors. All other attributes are the dataset's, to be read and set, as a
    ``worker_init_fn`` may do.
    """

    def __init__(self, dataset: Any) -> None:
        self.__dict__["_wrapped"] = dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_wrapped"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._wrapped, name, value)

    def __reduce__(self) -> tuple[type["IndexedDataset"], tuple[Any]]:
        return type(self), (self._wrapped,)

    def __len__(self) -> int:
        return len(self._wrapped)

    def __getitem__(self, index: int) -> Any:
        return self._wrapped[index]

    def __getitems__(self, batch: IndexBatch) -> tuple[IndexBatch, list[Any]]:
        with nullcontext() if batch.seed is None else forked_random_state(batch.seed):
            samples = self._fetch(batch.groups[:, 0])
        if batch.groups[:, 1:].size > 0:
            with forked_random_state(batch.neighbor_seed):
                samples += self._fetch(batch.groups[:, 1:].reshape(-1))
        return batch, samples

    def _fetch(self, indices: np.ndarray) -> list[Any]:
        fetch_many: Callable[[list[int]], Sequence[Any]] | None = getattr(self._wrapped, "__getitems__", None)
        if callable(fetch_many):
            return list(fetch_many(indices.tolist()))
        return [self._wrapped[index] for index in indices.tolist()]


class IndexedCollate:
    """The user's ``collate_fn``, called on the samples; the indices go past it."""

    def __init__(self, collate_fn: Callable[[list[Any]], Any]) -> None:
        self.collate_fn = collate_fn

    def __call__(self, fetched: tuple[IndexBatch, list[Any]]) -> LoadedBatch:
        batch, samples = fetched
        # A seed next to that of the samples: what is drawn here must not repeat what they drew.
        with nullcontext() if batch.seed is None else forked_random_state((batch.seed + 1) % 2**32):
            collated = self.collate_fn(samples)
        return LoadedBatch(batch.number, torch.from_numpy(batch.groups), collated)


def rebuilt(loader: DataLoader[Any], dataset: Any, **replaced: Any) -> DataLoader[Any]:
    """Build a loader with the settings of ``loader`` over ``dataset``, with indices traveling along.

    Args:
        loader: the user's.
        dataset: the user's dataset, or another with the same samples.
        **replaced: constructor arguments to use in place of the user's.
    """
    arguments: dict[str, Any] = {name: getattr(loader, name) for name in COPIED_ARGUMENTS}
    arguments |= {"collate_fn": IndexedCollate(loader.collate_fn), **replaced}
    return DataLoader(IndexedDataset(dataset), **arguments)
