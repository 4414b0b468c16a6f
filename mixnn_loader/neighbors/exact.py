"""Exact search: every distance, in blocks of rows, on the device the representations are on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixnn_loader.checks import check_count
from mixnn_loader.neighbors.precision import full_float32
from mixnn_loader.neighbors.rows import center, check_rows, query_rows

DEFAULT_MEMORY_BUDGET = 256 * 2**20
"""256 MiB is 1,342 rows against 50,000.

That is enough for a matrix product at full speed (larger blocks gain nothing), and little beside a network and its
activations on a GPU.
"""

SPARE_CANDIDATES = 8
"""That many extra candidates have their distance computed again from the differences.

|y|² - 2xy is off by about 1e-7 |x|², which can swap neighbors of nearly the same distance when clusters are tight.
"""

FLOAT32_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class ExactSearch:
    """Compare every row with every other one: O(Q N d) time, recall 1, the same answer every time.

    Distances are computed in float32 on centered rows, with autocast and TF32 off.

    Attributes:
        memory_budget: bytes for a block of distances, on top of one centered float32 copy of the
            representations. A block is never smaller than one row.

    Raises:
        ValueError: ``memory_budget`` is not positive.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
        >>> ExactSearch().search(points, k=2).tolist()
        [[1, 2], [0, 2], [1, 0], [2, 1]]
    """

    memory_budget: int = DEFAULT_MEMORY_BUDGET

    def __post_init__(self) -> None:
        check_count("memory_budget", self.memory_budget, 1, "a number of bytes")

    @torch.no_grad()
    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Tensor:
        """Find the ``k`` nearest other rows; see `NeighborSearch.search`.

        Args:
            representations: (N, d) floating point, every entry finite.
            k: neighbors a row, in 1..N-1.
            queries: (Q,) row numbers; None for all N rows.

        Returns:
            (Q, k) int64 row numbers, nearest first.

        Raises:
            ValueError: an argument has the wrong shape or type, or is out of range.
        """
        check_rows(representations, k)
        queries = query_rows(queries, representations)
        num_candidates = min(k + SPARE_CANDIDATES, len(representations) - 1)
        with full_float32(representations.device.type):
            rows = center(representations)  # (N, d)
            norms = rows.square().sum(dim=1)  # (N,)
            blocks = torch.split(queries, self._block_rows(rows, num_candidates))
            return torch.cat(
                [_nearest(rows, block, _candidates(rows, norms, block, num_candidates), k) for block in blocks]
            )

    def _block_rows(self, rows: Tensor, num_candidates: int) -> int:
        num_rows, width = rows.shape
        floats_a_query = num_rows + 2 * num_candidates * width  # its distances; its candidates, their squares
        return max(1, self.memory_budget // (FLOAT32_BYTES * floats_a_query))


def _candidates(rows: Tensor, norms: Tensor, block: Tensor, num_candidates: int) -> Tensor:
    # |x - y|² without |x|², which is the same all along a row of the answer.
    distances = torch.addmm(norms, rows[block], rows.T, alpha=-2)  # (B, N)
    distances.scatter_(1, block[:, None], float("inf"))
    return distances.topk(num_candidates, dim=1, largest=False).indices  # (B, num_candidates)


def _nearest(rows: Tensor, block: Tensor, candidates: Tensor, k: int) -> Tensor:
    differences = rows[candidates].sub_(rows[block, None])  # (B, num_candidates, d)
    distances = differences.square_().sum(dim=2)  # (B, num_candidates)
    return candidates.gather(1, distances.argsort(dim=1, stable=True)[:, :k])  # (B, k)
