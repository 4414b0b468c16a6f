"""Whole rows from any backend."""

import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader.neighbors.exact import ExactSearch
from mixnn_loader.neighbors.protocol import NeighborSearch
from mixnn_loader.neighbors.rows import without_self


def search_all(backend: NeighborSearch, representations: Tensor, k: int) -> Tensor:
    """Let a backend find every row's ``k`` nearest other rows, and find by exact search what it leaves out.

    Args:
        backend: one of this package's, or the caller's own: its rows may be short (fewer columns, or -1 in them) or
            hold the row itself.
        representations: (N, d) floating point, every entry finite.
        k: neighbors a row, in 1..N-1.

    Returns:
        (N, k) int64 row numbers, nearest first.

    Raises:
        ValueError: the backend's answer is not a tensor of N rows of row numbers.
    """
    num_rows = len(representations)
    found = backend.search(representations, k)
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != num_rows or found.is_floating_point():
        kind = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"search must return row numbers, an integer tensor of shape ({num_rows}, {k}), got {kind} from "
            f"{type(backend).__name__}"
        )
    found = found.to(representations.device, torch.int64)
    found = functional.pad(found, (0, max(0, k - found.shape[1])), value=-1)
    if (largest := int(found.max())) >= num_rows:
        raise ValueError(
            f"search must return row numbers below {num_rows}, got {largest} from {type(backend).__name__}"
        )
    rows = torch.arange(num_rows, device=found.device)
    neighbors, complete = without_self(found, rows, k)
    if not complete.all():
        neighbors[~complete] = ExactSearch().search(representations, k, rows[~complete])
    return neighbors
