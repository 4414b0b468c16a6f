"""Whole rows from any backend."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader.neighbors.cell_search import CellSearch
from mixnn_loader.neighbors.exact import ExactSearch
from mixnn_loader.neighbors.out_of_memory import remedy_where_memory_runs_out
from mixnn_loader.neighbors.protocol import NeighborSearch
from mixnn_loader.neighbors.rows import without_self


class Found(NamedTuple):
    """Neighbors, and how they were found.

    Attributes:
        neighbors: (Q, k) int64 row numbers, nearest first.
        backend: the name of the class that found them.
        recall: the share of the true neighbors among them; None where nobody has measured it.
    """

    neighbors: Tensor
    backend: str
    recall: float | None


@remedy_where_memory_runs_out()
def search_all(backend: NeighborSearch, representations: Tensor, k: int, queries: Tensor | None = None) -> Found:
    """Let a backend find the ``k`` nearest other rows, and find by exact search what it leaves out.

    Args:
        backend: one of this package's, or the caller's own: its rows may be short (fewer columns, or -1 in them) or
            hold the row itself.
        representations: (N, d) floating point, every entry finite.
        k: neighbors a row, in 1..N-1.
        queries: (Q,) the rows to answer for; None for all N.

    Raises:
        ValueError: the backend's answer is not a tensor of Q rows of row numbers.
        RuntimeError: memory ran out, with a note on what takes less.
    """
    num_rows = len(representations)
    name, recall = type(backend).__name__, 1.0 if isinstance(backend, ExactSearch) else None
    if isinstance(backend, CellSearch):
        found, report = backend.search_and_report(representations, k, queries)
        name, recall = name if report.how == "cells" else ExactSearch.__name__, report.recall
    elif queries is None:
        found = backend.search(representations, k)
    else:
        found = backend.search(representations, k, queries)
    num_queries = num_rows if queries is None else len(queries)
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != num_queries or found.is_floating_point():
        kind = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"search must return row numbers, an integer tensor of shape ({num_queries}, {k}), got {kind} from "
            f"{type(backend).__name__}"
        )
    found = found.to(representations.device, torch.int64)
    found = functional.pad(found, (0, max(0, k - found.shape[1])), value=-1)
    if num_queries > 0 and (largest := int(found.max())) >= num_rows:
        raise ValueError(
            f"search must return row numbers below {num_rows}, got {largest} from {type(backend).__name__}"
        )
    rows = torch.arange(num_rows, device=found.device) if queries is None else queries.to(found.device)
    neighbors, complete = without_self(found, rows, k)
    if not complete.all():
        neighbors[~complete] = ExactSearch().search(representations, k, rows[~complete])
    return Found(neighbors, name, recall)
