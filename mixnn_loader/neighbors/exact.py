"""Exact search: every pair compared, in tiles, on the device the representations are on."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mixnn_loader._utils.checks import check_count
from mixnn_loader.neighbors.precision import full_float32, has_fast_bfloat16
from mixnn_loader.neighbors.rows import Nearest, center, check_rows, nearest_of, query_rows
from mixnn_loader.neighbors.shortlist import TILE_ROWS, shortlist

DEFAULT_MEMORY_BUDGET = 256 * 2**20
"""Room for the largest tile (at most 1,024 x 16,384 distances); a smaller one takes less."""

SPARE_CANDIDATES = 8
"""Candidates beyond the k-th, the last of which must be farther than it by what rounding moved both rows.

In a network in training the ninth neighbor is farther than the first by a sixth: of 20,000 rows none had to be searched
again for one neighbor after bfloat16 products, and three in a thousand for ten neighbors.
"""

BFLOAT16_UP_TO_NEIGHBORS = 10
"""On a CPU, with more of them, products of bfloat16 leave too many rows in doubt.

The last of many neighbors is hardly nearer than those after it. Of 10,000 rows of 512 numbers of length one, ten
clusters after a ReLU, ten neighbors took 1.5 s with either products, twenty 2.3 s instead of 1.5 s, eighty 3.0 s
instead of 1.9 s (a core with AVX-512 BF16). On a GPU, where products of float32 are many times slower, nothing has been
measured.
"""

WIDER = {torch.bfloat16: torch.float32, torch.float32: torch.float64}
"""With which products a row is searched again."""

SHARE_OF_DISTANCE = {torch.bfloat16: 2.0**-8, torch.float32: 2.0**-23}
"""By type: a squared distance is off by at most this share of itself, since its last digit is rounded,"""

SHARE_OF_NORMS = {torch.bfloat16: 2.0**-16, torch.float32: 2.0**-20}
"""...and, before that, by this share of |x|² + |y|², since they were added up and canceled in float32.

For sums of up to `SUMMED_WIDTH` numbers; of more, by as much more as a random walk is longer. Some nine times what
was seen at width 2,048, and a choice: the worst case that can be constructed is far larger, and never met.
"""

SUMMED_WIDTH = 256

TIED = 1e-5
"""A row that is nearer by less than this share is as good as the one found."""


@dataclass(frozen=True, kw_only=True)
class ExactSearch:
    """Compare every row with every other one: O(Q N d) time, recall 1, the same answer every time.

    Candidates are found by matrix products, and their distances then computed from the differences in float32, on
    centered rows, with autocast and TF32 off. Where the hardware multiplies bfloat16 fast, it finds the candidates,
    and the answer is no less exact for it: by the triangle inequality a row left out is at least as far as its
    rounded image, less what rounding moved the two rows. Wherever that is not beyond the k-th neighbor, the row is
    searched again with float32 products, and at last with float64 ones.

    Attributes:
        memory_budget: bytes for a tile of distances, on top of one centered float32 copy of the
            representations. A tile is never smaller than one row.
        shortlist_dtype: what the candidates are found with, torch.float32 or torch.bfloat16; None for bfloat16 where
            the hardware has it at speed and, on a CPU, few neighbors are asked for: with AVX-512 BF16, an exact search
            is two to three times as fast for it (`benchmarks/results/neighbor_search.json`).

    Raises:
        ValueError: ``memory_budget`` is not positive, or ``shortlist_dtype`` is another type.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
        >>> ExactSearch().search(points, k=2).tolist()
        [[1, 2], [0, 2], [1, 0], [2, 1]]
    """

    memory_budget: int = DEFAULT_MEMORY_BUDGET
    shortlist_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        check_count("memory_budget", self.memory_budget, 1, "a number of bytes")
        if self.shortlist_dtype not in (None, torch.float32, torch.bfloat16):
            raise ValueError(
                f"shortlist_dtype must be torch.float32, torch.bfloat16 or None, got {self.shortlist_dtype!r}"
            )

    @torch.no_grad()
    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Tensor:
        """Find the ``k`` nearest other rows; see `NeighborSearch.search`."""
        check_rows(representations, k)
        queries = query_rows(queries, representations)
        with full_float32(representations.device.type):
            return self.search_centered(center(representations), k, queries)

    def search_centered(self, rows: Tensor, k: int, queries: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Find the neighbors of rows that `center` has made, inside `full_float32`, by products of ``dtype`` first."""
        if len(queries) == 0:
            return queries.new_empty(0, k)
        if dtype is None:
            dtype = self.shortlist_dtype or _first_products(k, rows.device)
        size = min(k + 1 + SPARE_CANDIDATES, len(rows))  # the query's own row is among them
        found = shortlist(rows, queries, size, dtype=dtype, memory_budget=self.memory_budget)
        neighbors, distances = nearest_of(rows, queries, found.neighbors, k)
        widest = torch.float32 if rows.device.type == "mps" else torch.float64  # which MPS has not
        if dtype != widest and size < len(rows):
            doubtful = ~_certain(rows, queries, found, distances[:, -1], dtype)
            neighbors[doubtful] = self.search_centered(rows, k, queries[doubtful], WIDER[dtype])
        return neighbors


def _first_products(k: int, device: torch.device) -> torch.dtype:
    """Return the type of the products that find ``k`` neighbors soonest."""
    if has_fast_bfloat16(device) and (device.type != "cpu" or k <= BFLOAT16_UP_TO_NEIGHBORS):
        return torch.bfloat16
    return torch.float32


def _certain(rows: Tensor, queries: Tensor, found: Nearest, farthest: Tensor, dtype: torch.dtype) -> Tensor:
    """Tell for which queries no row outside the shortlist can be nearer than the ``k`` found.

    Write x̂ for what x is rounded to. By the triangle inequality |x - y| >= |x̂ - ŷ| - |x - x̂| - |y - ŷ|, and
    outside the shortlist |x̂ - ŷ| is at least the largest distance in it, less the rounding of that distance.

    Args:
        rows: (N, d) float32.
        queries: (Q,) int64 row numbers.
        found: their shortlists, (Q, S), by products of ``dtype``.
        farthest: (Q,) distances of the k-th neighbors.
        dtype: bfloat16 or float32.

    Returns:
        (Q,) bool.
    """
    norms = torch.linalg.vector_norm(rows, dim=1)  # (N,)
    moved = torch.cat([torch.linalg.vector_norm(some - some.to(dtype), dim=1) for some in torch.split(rows, TILE_ROWS)])
    share_moved = float((moved / norms.clamp_min(torch.finfo(torch.float32).tiny)).max())
    # Only rows that can be nearer at all: |x - y| >= |y| - |x|. Others may be huge, and rounded accordingly.
    order = norms.sort().values
    reach = (norms[queries] + farthest) * (1 + TIED)
    theirs = order[torch.searchsorted(order, reach, right=True).sub_(1).clamp_(min=0)]  # (Q,)

    share = SHARE_OF_NORMS[dtype] * max(1.0, math.sqrt(rows.shape[1] / SUMMED_WIDTH))
    slack = share * (norms[queries].square() + theirs.square())
    rounded = (found.distances[:, -1] * (1 - SHARE_OF_DISTANCE[dtype]) - slack).clamp_min_(0).sqrt_()  # (Q,)
    nearest_outside = rounded - share_moved * (norms[queries] + theirs)
    return torch.ge(nearest_outside, farthest * (1 - TIED)) | (farthest == 0)
