"""Where the neighbors that a sample is mixed with come from: what a source of neighbors promises."""

from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from mixnn_loader.neighbors.complete import Found

Sees = Literal["nothing", "batch", "dataset"]


class Candidates(NamedTuple):
    """Who may become a neighbor in this epoch.

    Attributes:
        members: (n,) int64, sorted dataset indices of the training samples with a finite loss, at least one.
        pool: (N, M) int64, what `NeighborSource.search` found for each of the dataset's N samples, nearest first. A
            sample for which nothing was found has its own index there.
    """

    members: np.ndarray
    pool: np.ndarray


class Pairs(NamedTuple):
    """Neighbors within a batch.

    Attributes:
        positions: (B, K) int64, row numbers in the batch; a row's own where there is no neighbor.
        found: (B, K) bool, False for a neighbor that does not exist.
    """

    positions: Tensor
    found: Tensor


@runtime_checkable
class NeighborSource(Protocol):
    """Where neighbors come from; every method has an answer that means "not from here".

    A source that brings neighbors from the dataset draws them before a batch is loaded (`draw`), perhaps from what it
    searched at the start of the epoch (`search`). One that pairs the samples of a batch does so after it is loaded
    (`pair`). An object with these members can be passed as ``neighbors=``; a subclass has to define only what it does
    differently.

    Attributes:
        sees: which representations it is to be given: ``"dataset"``, those of all members in `search`; ``"batch"``,
            those of the batch in `pair`; or ``"nothing"``.
    """

    sees: Sees = "nothing"

    def pool_size(self, k: int) -> int:
        """Return M, how many neighbors of each sample `search` finds; 0: it is not to be called."""
        del k
        return 0

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Found:
        """Find neighbors once an epoch.

        Args:
            representations: (n, d) floating point and finite, of the members.
            k: how many to find: M, or n - 1 if that is less.
            queries: (Q,) row numbers to answer for; None for all n.

        Returns:
            (Q, k) row numbers, nearest first, and how they were found.
        """
        del k
        num_queries = len(representations) if queries is None else len(queries)
        nobody = torch.empty(num_queries, 0, dtype=torch.int64, device=representations.device)
        return Found(nobody, type(self).__name__, None)

    def draw(self, indices: np.ndarray, k: int, candidates: Candidates, rng: np.random.Generator) -> np.ndarray:
        """Draw the neighbors that are loaded with a batch.

        Args:
            indices: (B,) int64, the batch's dataset indices.
            k: K, neighbors a sample.
            candidates: who there is.
            rng: random numbers for this batch.

        Returns:
            (B, K) int64 dataset indices, a sample's own where it has no neighbor; or (B, 0) to load nobody.
        """
        del k, candidates, rng
        return np.empty((len(indices), 0), dtype=np.int64)

    def pair(self, indices: Tensor, representations: Tensor | None, k: int, rng: np.random.Generator) -> Pairs | None:
        """Pair the samples of a batch with each other.

        Args:
            indices: (B,) int64, the batch's dataset indices: on the model's device if `sees` is ``"batch"``, else on
                the CPU, where a few small operations take less time.
            representations: (B, d) float32 beside them, if `sees` is ``"batch"``.
            k: K, neighbors a sample.
            rng: random numbers for this batch.

        Returns:
            The pairs, both on one device; or None where the neighbors are those that were loaded.
        """
        del indices, representations, k, rng
        return None


class NoNeighbors(NeighborSource):
    """Every sample stays alone."""
