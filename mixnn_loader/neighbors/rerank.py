"""The nearest of a few candidates, by the differences of the coordinates."""

from typing import NamedTuple

import torch
from torch import Tensor

from mixnn_loader.neighbors.out_of_memory import Blocks

BLOCK_BYTES = 4 * 2**20
"""Coordinates gathered at a time: what is written and read several times over should stay in the cache."""

ACCELERATOR_BLOCK_BYTES = 256 * 2**20
"""An accelerator is busy only with many rows at a time."""

FLOAT32_BYTES = 4


class Nearest(NamedTuple):
    """Neighbors of the queries, nearest first.

    Attributes:
        neighbors: (Q, k) int64 row numbers.
        distances: (Q, k) float32, infinite where there was no such candidate.
    """

    neighbors: Tensor
    distances: Tensor


def rerank(rows: Tensor, queries: Tensor, candidates: Tensor, k: int) -> Nearest:
    """Pick the ``k`` nearest candidates of each query, itself excluded.

    By differences, since |x|² - 2xy + |y|² loses a small distance in large norms.

    Args:
        rows: (N, d) float32.
        queries: (Q,) int64 row numbers.
        candidates: (Q, at least k) int64 row numbers.
        k: neighbors a query.
    """
    block_bytes = BLOCK_BYTES if rows.device.type == "cpu" else ACCELERATOR_BLOCK_BYTES
    block_rows = max(1, block_bytes // (FLOAT32_BYTES * candidates.shape[1] * rows.shape[1]))
    nearest = Blocks(block_rows).run(len(queries), lambda block: _nearest(rows, queries[block], candidates[block], k))
    return Nearest(torch.cat([each.neighbors for each in nearest]), torch.cat([each.distances for each in nearest]))


def _nearest(rows: Tensor, queries: Tensor, candidates: Tensor, k: int) -> Nearest:
    # index_select: as fast as memory, where indexing takes four times that on a CPU.
    theirs = rows.index_select(0, candidates.flatten()).view(*candidates.shape, -1)
    differences = theirs.sub_(rows.index_select(0, queries)[:, None])  # (B, S, d)
    distances = torch.linalg.vector_norm(differences, dim=2)  # (B, S)
    distances = distances.masked_fill_(candidates == queries[:, None], torch.inf)
    distances, places = distances.sort(dim=1, stable=True)
    return Nearest(
        candidates.gather(1, places[:, :k]), distances[:, :k].clone()
    )  # not a view that keeps the rest alive
