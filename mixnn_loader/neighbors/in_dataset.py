"""Neighbors from anywhere in the training set, loaded with the batch."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mixnn_loader._utils.checks import check_count
from mixnn_loader.neighbors.choose import resolve_search
from mixnn_loader.neighbors.complete import Found, search_all
from mixnn_loader.neighbors.protocol import NeighborSearch
from mixnn_loader.neighbors.source import Candidates, NeighborSource, Sees


class NearestInDataset(NeighborSource):
    """The nearest in the whole training set, searched once an epoch (the paper).

    Args:
        pool: M, draw a batch's K neighbors from the M nearest, afresh for every batch; None: the K nearest.
        search: as for `mixnn_loader.neighbors.resolve_search`.

    Raises:
        ValueError: ``search`` is a string with no meaning, or ``pool`` no integer >= 0.
        TypeError: ``search`` is neither a string nor an object with a ``search`` method.
        ImportError: what ``search`` needs is not installed.
    """

    sees: Sees = "dataset"

    def __init__(self, pool: int | None = None, search: str | NeighborSearch = "auto") -> None:
        if pool is not None:
            check_count("neighbor_pool", pool, 0, "None or an integer")
        resolve_search(search, num_rows=1, device=torch.device("cpu"))  # what is wrong with the choice shows at once
        self._pool = pool
        self._search = search

    def __repr__(self) -> str:
        return f"NearestInDataset(pool={self._pool}, search={self._search!r})"

    def pool_size(self, k: int) -> int:
        """Return M."""
        return k if self._pool is None else self._pool

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Found:
        """Search among all members."""
        backend = resolve_search(self._search, num_rows=len(representations), device=representations.device)
        return search_all(backend, representations, k, queries)

    def draw(self, indices: np.ndarray, k: int, candidates: Candidates, rng: np.random.Generator) -> np.ndarray:
        """Take the K nearest, or K different ones of the M nearest, each choice being equally likely."""
        nearest: np.ndarray = candidates.pool[indices]
        if nearest.shape[1] == k:
            return nearest
        columns: np.ndarray = np.argsort(rng.random(nearest.shape), axis=1)[:, :k]
        drawn: np.ndarray = np.take_along_axis(nearest, columns, axis=1)
        return drawn


@dataclass(eq=False)
class RandomInDataset(NeighborSource):
    """K different members for each sample, uniformly (ablation "random partners")."""

    def draw(self, indices: np.ndarray, k: int, candidates: Candidates, rng: np.random.Generator) -> np.ndarray:
        """Draw among the members. A sample that is none gets itself; where there are too few, itself fills up."""
        members = candidates.members
        num_drawn = max(0, min(k, len(members) - 1))
        own = np.searchsorted(members, indices)
        is_member = members[np.minimum(own, len(members) - 1)] == indices if len(members) > 0 else indices < 0
        own = np.where(is_member, own, 0)
        taken = own[:, None]
        for drawn_before in range(num_drawn):
            # A number below len - 1 - drawn_before is moved past each rank already taken, in rising order: uniform
            # over the ranks that are left, with no draw to reject.
            drawn = rng.integers(len(members) - 1 - drawn_before, size=len(indices))
            for column in np.sort(taken, axis=1).T:
                drawn = drawn + (drawn >= column)
            taken = np.concatenate([taken, drawn[:, None]], axis=1)
        neighbors = np.repeat(indices[:, None], k, axis=1)
        if num_drawn > 0:
            neighbors[:, :num_drawn] = np.where(is_member[:, None], members[taken[:, 1:]], indices[:, None])
        return neighbors
