"""What every backend does to its rows: check them, center them, take a row out of its own answer."""

import torch
from torch import Tensor

from mixnn_loader._utils.checks import check_count

CENTER_ROWS = 1_024
"""About as many rows, evenly spaced, say where the middle is."""


def check_rows(representations: Tensor, k: int) -> None:
    """Refuse rows that cannot each have ``k`` neighbors.

    Raises:
        ValueError: ``representations`` is not a floating-point (N, d), or ``k`` is not in 1..N-1.
    """
    if representations.ndim != 2 or representations.shape[1] == 0:
        shape = tuple(representations.shape)
        raise ValueError(f"representations must have shape (N, d) with d >= 1, got {shape}; flatten them first")
    if not representations.is_floating_point():
        raise ValueError(f"representations must be floating point, got {representations.dtype}; call .float()")
    check_count("k", k, 1, below=len(representations))


def query_rows(queries: Tensor | None, representations: Tensor) -> Tensor:
    """Give the row numbers to answer for, (Q,) int64 beside the representations.

    Raises:
        ValueError: ``queries`` is not 1-D, not of integers, or points outside the rows.
    """
    num_rows = len(representations)
    if queries is None:
        return torch.arange(num_rows, device=representations.device)
    if queries.ndim != 1 or queries.is_floating_point() or queries.is_complex() or queries.dtype == torch.bool:
        raise ValueError(
            f"queries must be row numbers, a 1-D integer tensor, got {queries.dtype} of shape "
            f"{tuple(queries.shape)}; turn a mask into row numbers with mask.nonzero().flatten()"
        )
    outside = queries[(queries < 0) | (queries >= num_rows)]
    if len(outside) > 0:
        raise ValueError(f"queries must be row numbers in 0..{num_rows - 1}, got {int(outside[0])}")
    return queries.to(representations.device, torch.int64)


def center(representations: Tensor) -> Tensor:
    """Move the rows' middle to the origin and shrink them into [-1, 1], as (N, d) float32.

    Neither changes which rows are nearest. The first keeps |x|² - 2xy + |y|² from canceling when
    the rows lie far from the origin, the second keeps squares from overflowing when a network diverges.
    """
    wide = torch.promote_types(representations.dtype, torch.float32)
    rows = representations.detach().to(wide, copy=True)
    # The median of some: one huge row would move the mean so far that all others lose their digits. Before float64
    # is narrowed: its digits may be all in what is taken away.
    # On the CPU: under torch.use_deterministic_algorithms it is refused on CUDA.
    rows -= rows[:: max(1, len(rows) // CENTER_ROWS)].cpu().median(dim=0).values.to(rows.device)
    largest = torch.linalg.vector_norm(rows, torch.inf)
    return rows.div_(largest.clamp_min(torch.finfo(torch.float32).tiny)).float()


def without_self(candidates: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Keep the first ``k`` candidates that are not the query itself.

    An index need not put a row first in its own answer: one of its duplicates can stand there, and
    with enough of them the row is not in the answer at all. So it is looked for by its number.

    Args:
        candidates: (Q, at least k) row numbers, nearest first; -1 where the index found none.
        queries: (Q,) row numbers.
        k: neighbors a row.

    Returns:
        neighbors (Q, k), whose order is that of ``candidates``, and complete (Q,) bool: False where
        fewer than ``k`` candidates were left, so that the row's last neighbors mean nothing.
    """
    usable = (candidates != queries[:, None]) & (candidates >= 0)  # (Q, width)
    usable_first = (~usable).to(torch.uint8).argsort(dim=1, stable=True)  # (Q, width)
    return candidates.gather(1, usable_first[:, :k]), usable.sum(dim=1) >= k
