"""Which samples of the dataset each sample of a batch is mixed with."""

from collections.abc import Callable

import numpy as np

DrawPartners = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""``(indices (B,), generator) -> (B, K)`` dataset indices of the partners."""


def no_partners(indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw nobody: (B, 0)."""
    del rng
    return np.empty((len(indices), 0), dtype=np.int64)


def nearest_partners(pool: np.ndarray, num_neighbors: int) -> DrawPartners:
    """Draw from each sample's nearest neighbors.

    Args:
        pool: (N, M) int64, the M nearest neighbors of each of the N samples, nearest first.
        num_neighbors: K <= M. Where K < M, K different ones are drawn afresh for every batch, uniformly.
    """
    if num_neighbors == pool.shape[1]:
        return lambda indices, _: pool[indices]

    def draw(indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        scores = rng.random((len(indices), pool.shape[1]))
        columns = np.argsort(scores, axis=1)[:, :num_neighbors]
        return np.take_along_axis(pool[indices], columns, axis=1)

    return draw


def random_partners(members: np.ndarray, num_rows: int, num_neighbors: int) -> DrawPartners:
    """Draw K different partners for each sample, uniformly over the training set (ablation "random partners").

    Args:
        members: sorted dataset indices of the samples that may be drawn. A sample outside of them gets itself.
        num_rows: N, the length of the dataset.
        num_neighbors: K. Where there are fewer other members, the sample itself fills its row up.
    """
    num_drawn = min(num_neighbors, len(members) - 1)
    rank_of = np.full(num_rows, -1, dtype=np.int64)
    rank_of[members] = np.arange(len(members))

    def draw(indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        own = rank_of[indices]
        taken = own[:, None]
        for k in range(num_drawn):
            # A number below len - 1 - k is moved past each rank already taken, in rising order: uniform over the
            # ranks that are left, with no draw to reject.
            drawn = rng.integers(len(members) - 1 - k, size=len(indices))
            for column in np.sort(taken, axis=1).T:
                drawn = drawn + (drawn >= column)
            taken = np.concatenate([taken, drawn[:, None]], axis=1)
        partners = members[taken[:, 1:] % len(members)]
        partners = np.where((own >= 0)[:, None], partners, indices[:, None])
        return np.concatenate([partners, np.repeat(indices[:, None], num_neighbors - num_drawn, axis=1)], axis=1)

    return draw
