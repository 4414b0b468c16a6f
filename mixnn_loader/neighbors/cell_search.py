"""Search in the cells around each row, and only as many of them as the recall asks for."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mixnn_loader._utils.checks import check_count, check_fraction
from mixnn_loader.neighbors.cells import ROWS_A_CELL, Cells, find_centers
from mixnn_loader.neighbors.exact import ExactSearch
from mixnn_loader.neighbors.precision import full_float32
from mixnn_loader.neighbors.rows import center, check_rows, nearest_of, query_rows

SAMPLE_ROWS = 1_024
"""Rows answered exactly to choose the number of cells, and as many others to measure the recall of that choice.

At a recall of 0.997 an estimate from 1,024 rows has a standard deviation of 0.0017.
"""

MARGIN = 0.3
"""The cells are chosen for 0.3 of the losses that the floor allows: 0.997 where it is 0.99.

What is measured then misses the floor by chance less than once in a hundred searches, and a search that does
is made in vain.
"""

MIN_ROWS = 8 * SAMPLE_ROWS
"""With fewer rows, the two samples alone are a quarter of an exact search."""

MAX_SHARE_OF_PAIRS = 0.4
"""Where the cells to be searched hold more of all pairs, an exact search is as fast.

For 20,000 normal rows of 12, 20 and 28 dimensions in 128, a share of 0.18, 0.37 and 0.52, cells took 0.6, 0.8 and 1.2
times as long by float32 products on a CPU. Products of bfloat16 pay from a smaller share on.
"""

ROUNDING = 1e-5
"""Neighbors at the same distance, but for this share of it, are equally right."""


class CellReport(NamedTuple):
    """How a search was made.

    Attributes:
        how: "cells", or "exact" where cells would not have paid or not have reached the recall.
        recall: of the k nearest neighbors of a random sample of rows, how many were found; 1 for exact search.
        share: of all pairs of rows, how many were compared.
    """

    how: Literal["cells", "exact"]
    recall: float
    share: float


@dataclass(frozen=True, kw_only=True)
class CellSearch:
    """Compare every row with those of the cells around it: O(N^1.5 d) time, at a recall that is measured each time.

    Rows are divided into about √N cells by k-means. A random sample of rows, answered exactly, tells how many of the
    cells nearest to a row hold its neighbors; a second sample tells the recall so reached. Where that is below
    `min_recall`, or where so many cells are needed that it would not pay, every row is searched exactly. So the recall
    does not rest on parameters that suit one network and not the next, as an index's does.

    The cells are made anew for each search. The answer depends on the arguments and the seed alone: there is nothing
    to keep from one epoch for the next. Last epoch's neighbors are a poor shortlist while a network learns: of a
    convolutional network's representations of CIFAR-10, eight epochs into training at a learning rate of 0.02, a
    quarter kept their nearest neighbor from one epoch to the next, and 68 % to 76 % had it among their last 16.

    Attributes:
        min_recall: the least share of nearest neighbors found, in [0, 1].
        seed: of the samples.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> points = torch.randn(1000, 16, generator=torch.Generator().manual_seed(0))
        >>> CellSearch().search(points, k=3).shape
        torch.Size([1000, 3])
    """

    min_recall: float = 0.99
    seed: int = 0

    def __post_init__(self) -> None:
        check_fraction("min_recall", self.min_recall)
        check_count("seed", self.seed)

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Tensor:
        """Find about the ``k`` nearest other rows; see `NeighborSearch.search`."""
        return self.search_and_report(representations, k, queries)[0]

    @torch.no_grad()
    def search_and_report(
        self, representations: Tensor, k: int, queries: Tensor | None = None
    ) -> tuple[Tensor, CellReport]:
        """Do what `search` does, and tell how it was done."""
        check_rows(representations, k)
        queries = query_rows(queries, representations)
        with full_float32(representations.device.type):
            rows = center(representations)
            found = None
            if len(rows) >= MIN_ROWS and len(queries) > 0:  # however few: a share of them is answered as all are
                found = self._search_cells(rows, k, queries)
            if found is None:
                found = ExactSearch().search_centered(rows, k, queries), CellReport("exact", recall=1.0, share=1.0)
        return found

    def _search_cells(self, rows: Tensor, k: int, queries: Tensor) -> tuple[Tensor, CellReport] | None:
        """Search in cells, or return None where an exact search is the better one."""
        # Drawn on the CPU, wherever the rows are and whatever the default device is.
        generator = torch.Generator(device="cpu").manual_seed(self.seed)
        order = torch.randperm(len(rows), generator=generator, device="cpu").to(rows.device)
        num_cells = round(math.sqrt(len(rows)))
        centers = find_centers(rows[order[: num_cells * ROWS_A_CELL]].cpu(), num_cells)
        cells = Cells.build(rows, centers.to(rows.device))
        sample = order[-2 * SAMPLE_ROWS :]
        truth = ExactSearch().search_centered(rows, k, sample)  # (2 SAMPLE_ROWS, k)

        known, unseen = torch.split(sample, SAMPLE_ROWS)
        ranks = cells.ranks(known)  # (SAMPLE_ROWS, C)
        needed = ranks.gather(1, cells.cell[truth[:SAMPLE_ROWS]])  # (SAMPLE_ROWS, k)
        num_probes = _probes_needed(needed, 1 - MARGIN * (1 - self.min_recall))
        searched = (ranks < num_probes) * torch.bincount(cells.cell, minlength=len(cells.centers))  # (SAMPLE_ROWS, C)
        share = float(searched.sum()) / (len(known) * len(rows))
        if share > MAX_SHARE_OF_PAIRS:
            return None
        recall = _recall(cells, unseen, truth[SAMPLE_ROWS:], num_probes)
        if recall < self.min_recall:
            return None

        neighbors, distances = cells.search(queries, num_probes, k)
        incomplete = distances[:, -1].isinf()
        neighbors[incomplete] = ExactSearch().search_centered(rows, k, queries[incomplete])
        if k > 1:
            neighbors = nearest_of(rows, queries, neighbors, k).neighbors
        return neighbors, CellReport("cells", recall, share)


def _probes_needed(ranks: Tensor, recall: float) -> int:
    """Count the nearest cells that hold ``recall`` of the true neighbors, which are in cells of these ranks."""
    ranks = ranks.flatten().sort().values
    return int(ranks[math.ceil(recall * len(ranks)) - 1]) + 1


def _recall(cells: Cells, queries: Tensor, neighbors: Tensor, num_probes: int) -> float:
    """Give the share of what the cells find that is no farther than the farthest of the (Q, k) true neighbors."""
    k = neighbors.shape[1]
    found = cells.search(queries, num_probes, k)
    candidates = torch.where(found.distances.isinf(), queries[:, None], found.neighbors)  # itself is at infinity
    distances = nearest_of(cells.rows, queries, candidates, k).distances  # (Q, k)
    farthest = nearest_of(cells.rows, queries, neighbors, k).distances[:, -1:]  # (Q, 1)
    return float((distances <= farthest * (1 + ROUNDING)).float().mean())
