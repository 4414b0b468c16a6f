"""Which answers no row outside the shortlist can change, however its distances were rounded."""

import math

import torch
from torch import Tensor

from mixnn_loader.neighbors.shortlist import TILE_ROWS, Shortlist

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


def certain(rows: Tensor, queries: Tensor, found: Shortlist, farthest: Tensor, dtype: torch.dtype) -> Tensor:
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
    if found.candidates.shape[1] == len(rows):
        return torch.ones_like(queries, dtype=torch.bool)
    norms, moved = [], []
    for block in torch.split(rows, TILE_ROWS):
        norms.append(block.square().sum(dim=1))
        moved.append(torch.linalg.vector_norm(block - block.to(dtype), dim=1))
    norm, shift = torch.cat(norms), torch.cat(moved)  # (N,)

    # Only rows that can be nearer at all: |x - y| >= |y| - |x|. Others may be huge, and rounded accordingly.
    size, order = norm.sqrt().sort()
    reach = (norm[queries].sqrt() + farthest) * (1 + TIED)
    last = torch.searchsorted(size, reach, right=True).sub_(1).clamp_(min=0)  # (Q,)
    largest_norm, largest_shift = size[last].square(), shift[order].cummax(dim=0).values[last]

    share = SHARE_OF_NORMS[dtype] * max(1.0, math.sqrt(rows.shape[1] / SUMMED_WIDTH))
    slack = share * (norm[queries] + largest_norm)
    rounded = (found.distances[:, -1] * (1 - SHARE_OF_DISTANCE[dtype]) - slack).clamp_min_(0).sqrt_()  # (Q,)
    nearest_outside = rounded - shift[queries] - largest_shift
    return (nearest_outside >= farthest * (1 - TIED)) | (farthest == 0)
