"""Rows by cell: which cells are near a row, and which of their rows are nearest to it."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader.neighbors.kmeans import find_centers, nearest_centers, squared_distances
from mixnn_loader.neighbors.out_of_memory import Blocks
from mixnn_loader.neighbors.precision import fast_float32
from mixnn_loader.neighbors.rerank import Nearest

MEMORY_BUDGET = 64 * 2**20
"""Bytes for a block of distances to all centers, for a tile, and, unless there are many centers, for what is found."""

TILE_ROWS = 2_048
ROW_STEP = 512
COLUMN_STEP = 64
"""Tiles come in few shapes: oneDNN compiles a kernel for each one it meets, in the time of a product or two."""

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
    def build(cls, rows: Tensor, num_cells: int, generator: torch.Generator) -> "Cells":
        """Divide (N, d) float32 rows among ``num_cells``; the generator is one of the CPU."""
        centers = find_centers(rows, num_cells, generator)
        cell = nearest_centers(rows, centers, _block_rows(FLOAT32_BYTES * num_cells))
        members = cell.argsort(stable=True)
        return cls(rows, centers, cell, members, members.argsort(), _starts(cell, num_cells))

    def center_distances(self, queries: Tensor) -> Tensor:
        """Give each query's squared distances to all centers, less its squared norm: (Q, C)."""
        return squared_distances(self.rows.index_select(0, queries), self.centers)

    def share(self, queries: Tensor, num_probes: int) -> float:
        """Tell which part of all rows a query is compared with, on average."""
        sizes = torch.tensor(self.starts, dtype=torch.int64, device="cpu").diff()
        probed = self.center_distances(queries).topk(num_probes, dim=1, largest=False).indices
        return float(sizes[probed.cpu()].sum()) / (len(queries) * len(self.rows))

    def search(self, queries: Tensor, num_probes: int, k: int) -> Nearest:
        """Find the ``k`` nearest rows, others than itself, in the ``num_probes`` cells nearest to each query.

        Returns:
            (Q, k) row numbers, and distances as `fast_float32` gives them: good to choose by, not to compare with
            others. They are infinite where the cells hold too few rows.
        """
        bytes_found = (FLOAT32_BYTES + INT64_BYTES) * num_probes * k
        # Every block visits nearly every cell, and gathers its rows: with fewer queries than fill a tile in each
        # cell, that would be most of the work.
        least = ROW_STEP * len(self.centers) // num_probes
        blocks = Blocks(max(least, _block_rows(bytes_found)))
        found = blocks.run(len(queries), lambda block: self._search_block(queries[block], num_probes, k))
        return Nearest(torch.cat([each.neighbors for each in found]), torch.cat([each.distances for each in found]))

    def _search_block(self, queries: Tensor, num_probes: int, k: int) -> Nearest:
        parts = torch.split(queries, _block_rows(FLOAT32_BYTES * max(self.centers.shape)))
        nearest_cells = [self.center_distances(part).topk(num_probes, dim=1, largest=False).indices for part in parts]
        probed = torch.cat(nearest_cells)  # (B, P)
        # By cell rather than by query: all queries of a cell meet its rows in one matrix product.
        visits = probed.flatten().argsort(stable=True)  # (B * P,), each a place in `probed`
        starts = _starts(probed.flatten(), len(self.centers))
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
        theirs = self.rows.index_select(0, _fill_up(self.members[start:stop], COLUMN_STEP)).sub_(center)  # (m', d)
        ours = self.rows.index_select(0, _fill_up(queries, ROW_STEP)).sub_(center)  # (n', d)
        with fast_float32(self.rows.device):
            squares = torch.addmm(theirs.square().sum(dim=1), ours, theirs.T, alpha=-2)  # (n', m')
        ours, squares = ours[: len(queries)], squares[: len(queries), : stop - start]  # (n, d), (n, m)

        own_place = (self.places[queries] - start).clamp_(0, stop - start - 1)[:, None]  # (n, 1)
        there = (self.cell[queries] == cell)[:, None]
        squares.scatter_(1, own_place, squares.gather(1, own_place).masked_fill_(there, torch.inf))

        # Twice as fast for one neighbor, the usual number.
        nearest = squares.min(dim=1, keepdim=True) if k == 1 else squares.topk(k, dim=1, largest=False)
        norms = torch.linalg.vector_norm(ours, dim=1, keepdim=True).square_()
        distances = (nearest.values + norms).clamp_(min=0).sqrt_()
        return Nearest(self.members[nearest.indices + start], distances)


def _starts(cell: Tensor, num_cells: int) -> list[int]:
    sizes = torch.bincount(cell, minlength=num_cells)
    return [0, *sizes.cumsum(dim=0).tolist()]


def _fill_up(indices: Tensor, step: int) -> Tensor:
    return functional.pad(indices, (0, -len(indices) % step))


def _block_rows(bytes_a_row: int) -> int:
    return max(1, MEMORY_BUDGET // bytes_a_row)
