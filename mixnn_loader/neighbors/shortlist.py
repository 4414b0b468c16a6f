"""The nearest few of all rows by matrix products: the larger part of an exact search, in tiles of bounded memory."""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader.neighbors.out_of_memory import Blocks

TILE_COLUMNS = 16_384
"""Rows that a block of queries is compared with at a time: what is picked from each tile is shared by many columns."""

TILE_ROWS = 1_024
"""Queries in a block at most: a product is at full speed by then, and 1,024 x 16,384 bfloat16 are the size of a cache.

A block that does not fit is written to memory and read from there as slowly as it was computed.
"""

VECTOR = 32
"""Minima are taken over whole 64-byte vectors of bfloat16; four times slower where they are cut."""

ALIGNED_COLUMNS = 8
"""Factors have a multiple of this width: the fast kernels of a GPU want rows of whole 16 bytes."""

FAR = 1e30
"""The squared distance of the rows that fill a tile up. Rows within [-1, 1] never come near it."""

BYTES_A_CANDIDATE = 32
"""Of temporary memory: its column, its value, and both again while they are merged."""


class Shortlist(NamedTuple):
    """What is nearest by rounded rows.

    Attributes:
        candidates: (Q, S) int64 row numbers, nearest first; a query's own among them, as it is at distance zero.
        distances: (Q, S) float32, the squared distances by which they were chosen.
    """

    candidates: Tensor
    distances: Tensor


def shortlist(rows: Tensor, queries: Tensor, size: int, *, dtype: torch.dtype, memory_budget: int) -> Shortlist:
    """Find the ``size`` rows nearest to each query, all rows rounded to ``dtype``.

    Args:
        rows: (N, d) float32, centered, in [-1, 1].
        queries: (Q,) int64 row numbers.
        size: S, at most N.
        dtype: what the products are made of, bfloat16, float32 or float64. Those of bfloat16 add up in float32, but
            the distances are themselves rounded to 8 bits.
        memory_budget: bytes for a tile of distances and what is picked from it.
    """
    group = max(1, math.isqrt(min(TILE_COLUMNS, len(rows)) // size))
    num_tiles = math.ceil(len(rows) / TILE_COLUMNS)
    stride = VECTOR * math.ceil(len(rows) / (num_tiles * group * VECTOR))
    width = group * stride  # columns in a tile
    bytes_a_query = width * (dtype.itemsize + 4 / group) + BYTES_A_CANDIDATE * min(size * group, width)
    most_rows = TILE_ROWS if rows.device.type == "cpu" else len(queries)
    blocks = Blocks(min(most_rows, len(queries), max(1, int(memory_budget / bytes_a_query))))

    # Allocated once: small results that outlive large temporaries would keep the heap from reusing their place.
    candidates = queries.new_zeros(len(queries), size)
    nearest = rows.new_full((len(queries), size), torch.inf)
    spare: list[Tensor] = []

    def compare(right: Tensor, start: int, block: slice) -> None:
        left = _left(rows.index_select(0, queries[block]), dtype)  # (B, d + 2 p)
        # Not spare while it is in use: where memory runs out, it is let go, and a smaller one will do.
        buffer = spare.pop() if spare else rows.new_empty(len(left) * width, dtype=dtype)
        distances = torch.mm(left, right.T, out=buffer[: len(left) * width].view(len(left), width))
        best = Shortlist(candidates[block], nearest[block])
        candidates[block], nearest[block] = _merge(best, _pick(distances, size, group, start))
        spare.append(buffer)

    for start in range(0, len(rows), width):
        right = _right(rows[start : start + width], width, dtype)  # (width, d + 2 p)
        blocks.run(len(queries), partial(compare, right, start))
    return Shortlist(candidates, nearest)


def _left(rows: Tensor, dtype: torch.dtype) -> Tensor:
    rounded, norms, ones = _rounded(rows, dtype)
    return _aligned(torch.cat([rounded.mul_(-2), norms, ones], dim=1))


def _right(rows: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Encode a tile's rows, and fill it up to ``width`` with rows far from everything."""
    rounded, norms, ones = _rounded(rows, dtype)
    right = torch.cat([rounded, ones, norms], dim=1)  # left @ right = -2xy + |x|² + |y|²
    filling = right.new_zeros(width - len(rows), right.shape[1])
    filling[:, -1] = FAR
    return _aligned(torch.cat([right, filling]))


def _aligned(factors: Tensor) -> Tensor:
    return functional.pad(factors, (0, -factors.shape[1] % ALIGNED_COLUMNS))


def _rounded(rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Round rows, and write the squared norms of what they become as a sum that ``dtype`` holds without loss.

    The norms take part in the product, whose sum is in float32, so that a bfloat16 result is rounded relative to
    the distance. Added afterwards they would be rounded relative to the norm, and near neighbors would be lost in it.

    Returns:
        rounded (B, d), parts of the squared norms (B, p), ones (B, p).
    """
    rounded = rows.to(dtype, copy=True)
    wide = torch.promote_types(dtype, torch.float32)
    rest = rounded.to(wide).square().sum(dim=1)  # (B,)
    parts = []
    for _ in range(3 if dtype == torch.bfloat16 else 1):  # 3 x 8 bits are the 24 of float32
        parts.append(rest.to(dtype))
        rest = rest - parts[-1].to(wide)
    norms = torch.stack(parts, dim=1)
    return rounded, norms, torch.ones_like(norms)


def _pick(distances: Tensor, size: int, group: int, start: int) -> Shortlist:
    """Narrow a tile (B, width) down to a few columns a row that contain its ``size`` smallest values.

    The ``size`` smallest values lie within the ``size`` groups with the smallest minima. Taking minima is one
    vectorized pass; sorting out the smallest is many times that, and now sees `group` times fewer values.
    """
    num_rows, width = distances.shape
    if group == 1:
        columns = torch.arange(start, start + width, device=distances.device)
        return Shortlist(columns.expand(num_rows, width), distances.float())
    stride = width // group  # a group is every stride-th column, so that minima run along memory
    minima = distances.view(num_rows, group, stride).amin(dim=1)  # (B, stride)
    groups = minima.float().topk(min(size, stride), dim=1, largest=False, sorted=False).indices  # (B, size)
    members = torch.arange(0, width, stride, device=distances.device)  # (group,)
    columns = (groups[:, :, None] + members).flatten(1)  # (B, size * group)
    return Shortlist(columns + start, distances.gather(1, columns).float())


def _merge(best: Shortlist, found: Shortlist) -> Shortlist:
    candidates = torch.cat([best.candidates, found.candidates], dim=1)
    distances = torch.cat([best.distances, found.distances], dim=1)
    distances, places = distances.topk(best.distances.shape[1], dim=1, largest=False)
    return Shortlist(candidates.gather(1, places), distances)
