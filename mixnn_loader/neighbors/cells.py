"""Rows by cell: which cells are near a row, and which of their rows are nearest to it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixnn_loader.neighbors.out_of_memory import in_blocks
from mixnn_loader.neighbors.rows import Nearest

MEMORY_BUDGET = 64 * 2**20
"""Bytes for a tile, for a block of distances to all centers, and for what is found for a block of queries.

The last should hold many queries: every block gathers the rows of nearly every cell.
"""

TILE_ROWS = 2_048
"""Queries of a tile at most: more of them and what they are compared with leave the cache."""

ROWS_A_CELL = 32
"""Sampled rows that a center is the mean of. More cost time in proportion, and the cells searched are hardly fewer."""

NUM_ROUNDS = 4
"""Of k-means. With none, a fifth more pairs are compared at 50,000 and at 200,000 rows."""

FLOAT32_BYTES = 4
INT64_BYTES = 8


@dataclass(frozen=True)
class Cells:
    """Rows divided among the nearest of some centers: an inverted file (Jégou et al., 2011, section IV).

    Attributes:
        rows: (N, d) float32.
        centers: (C, d) float32.
        cell: (N,) int64, the number of each row's cell.
        members: (N,) int64 row numbers, cell by cell.
        places: (N,) int64, where in ``members`` each row stands.
        starts: C + 1 places in ``members`` where the cells begin.
    """

    rows: Tensor
    centers: Tensor
    cell: Tensor
    members: Tensor
    places: Tensor
    starts: list[int]

    @classmethod
    def build(cls, rows: Tensor, centers: Tensor) -> "Cells":
        """Divide (N, d) float32 rows among (C, d) centers."""
        cell = _nearest_centers(rows, centers)
        members = cell.argsort(stable=True)
        return cls(rows, centers, cell, members, members.argsort(), _starts(cell, len(centers)))

    def ranks(self, queries: Tensor) -> Tensor:
        """Give how many centers are nearer to each query than each cell's own: (Q, C) int64."""
        return _from_centers(self.rows.index_select(0, queries), self.centers).argsort(dim=1).argsort(dim=1)

    def search(self, queries: Tensor, num_probes: int, k: int) -> Nearest:
        """Find the ``k`` nearest rows, others than itself, in the ``num_probes`` cells nearest to each query.

        Returns:
            (Q, k) row numbers, and distances: infinite where the cells hold too few rows.
        """
        block_rows = _block_rows((FLOAT32_BYTES + INT64_BYTES) * num_probes * k)
        return Nearest.concatenate(
            in_blocks(len(queries), block_rows, lambda block: self._search_block(queries[block], num_probes, k))
        )

    def _search_block(self, queries: Tensor, num_probes: int, k: int) -> Nearest:
        parts = torch.split(queries, _block_rows(FLOAT32_BYTES * max(self.centers.shape)))
        from_centers = (_from_centers(self.rows.index_select(0, part), self.centers) for part in parts)  # each (b, C)
        probed = torch.cat([part.topk(num_probes, dim=1, largest=False).indices for part in from_centers]).flatten()
        # By cell rather than by query: all queries of a cell meet its rows in one matrix product.
        visits = probed.argsort(stable=True)  # (B * P,), each a place in `probed`
        starts = _starts(probed, len(self.centers))
        candidates = visits.new_zeros(len(visits), k)
        distances = self.rows.new_full((len(visits), k), torch.inf)
        for cell in range(len(self.centers)):
            visitors = visits[starts[cell] : starts[cell + 1]]
            size = self.starts[cell + 1] - self.starts[cell]
            if size == 0:
                continue
            tile_rows = min(TILE_ROWS, _block_rows(FLOAT32_BYTES * max(size, self.rows.shape[1])))
            for part in torch.split(visitors, tile_rows):
                nearest = self._search_cell(cell, queries[part // num_probes], min(k, size))
                candidates[part, : min(k, size)] = nearest.neighbors
                distances[part, : min(k, size)] = nearest.distances
        distances, best = distances.view(len(queries), -1).topk(k, dim=1, largest=False)
        return Nearest(candidates.view(len(queries), -1).gather(1, best), distances)

    def _search_cell(self, cell: int, queries: Tensor, k: int) -> Nearest:
        start, stop = self.starts[cell], self.starts[cell + 1]
        center = self.centers[cell]
        # Seen from the center, norms are no larger than distances, and nothing cancels between them.
        theirs = self.rows.index_select(0, self.members[start:stop]).sub_(center)  # (m, d)
        ours = self.rows.index_select(0, queries).sub_(center)  # (n, d)
        squares = _from_centers(ours, theirs)  # (n, m)

        own_place = (self.places[queries] - start).clamp_(0, stop - start - 1)[:, None]  # (n, 1)
        there = (self.cell[queries] == cell)[:, None]
        squares.scatter_(1, own_place, squares.gather(1, own_place).masked_fill_(there, torch.inf))

        # Twice as fast for one neighbor, the usual number.
        nearest = squares.min(dim=1, keepdim=True) if k == 1 else squares.topk(k, dim=1, largest=False)
        norms = torch.linalg.vector_norm(ours, dim=1, keepdim=True).square_()
        distances = (nearest.values + norms).clamp_(min=0).sqrt_()
        return Nearest(self.members[nearest.indices + start], distances)


def find_centers(sample: Tensor, num_cells: int) -> Tensor:
    """Run a few rounds of Lloyd's algorithm on a random sample of rows (n, d), on the device where they are.

    Adding rows up by cell on a GPU gives sums that vary from run to run in their last bits: let it be the CPU.

    Returns:
        (num_cells, d) centers.
    """
    centers = sample[:num_cells]
    for _ in range(NUM_ROUNDS):
        cell = _nearest_centers(sample, centers)  # (n,)
        sums = torch.zeros_like(centers).index_add_(0, cell, sample)
        counts = torch.bincount(cell, minlength=num_cells)[:, None]  # (num_cells, 1)
        centers = torch.where(counts > 0, sums / counts.clamp_min(1), centers)
    return centers


def _nearest_centers(rows: Tensor, centers: Tensor) -> Tensor:
    block_rows = _block_rows(FLOAT32_BYTES * len(centers))
    blocks = in_blocks(len(rows), block_rows, lambda block: _from_centers(rows[block], centers).argmin(dim=1))
    return torch.cat(blocks)  # (N,)


def _from_centers(rows: Tensor, centers: Tensor) -> Tensor:
    """Give |y|² - 2xy for each row x and center y, (N, C): |x|² is the same all along a row."""
    return torch.addmm(centers.square().sum(dim=1), rows, centers.T, alpha=-2)


def _starts(cell: Tensor, num_cells: int) -> list[int]:
    sizes = torch.bincount(cell, minlength=num_cells)
    return [0, *sizes.cumsum(dim=0).tolist()]


def _block_rows(bytes_a_row: int) -> int:
    return max(1, MEMORY_BUDGET // bytes_a_row)
