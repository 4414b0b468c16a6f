"""From what a user says about the search to the object that does it."""

import torch

from mixnn_loader.neighbors.cell_search import CellSearch
from mixnn_loader.neighbors.exact import ExactSearch
from mixnn_loader.neighbors.hnsw import HNSWSearch
from mixnn_loader.neighbors.protocol import NeighborSearch

EXACT_UP_TO_ROWS = 10_000
"""On a CPU, more rows than this are searched by cells.

There, cells take about as long as an exact search by bfloat16 products, and half to two thirds as long as one by
float32 products; the more rows, the more they gain. HNSW is slower than cells at any number of rows measured, three to
ten times, so it is only used when asked for. `benchmarks/neighbor_search.py` measures them all. On an accelerator, for
which an exact search is matrix products, nothing has been measured.
"""

CHOICES = '"auto", "exact", "cells", "hnsw" or an object with a search(representations, k, queries) method'


def resolve_search(search: str | NeighborSearch, *, num_rows: int, device: torch.device) -> NeighborSearch:
    """Choose the backend.

    Args:
        search: ``"exact"``, ``"cells"``, ``"hnsw"``, a backend of the caller's own, or ``"auto"``: exact on an
            accelerator and for up to `EXACT_UP_TO_ROWS` rows, cells for more rows on a CPU.
        num_rows: rows that will be searched.
        device: where their representations will be.

    Raises:
        ValueError: ``search`` is a string with no meaning.
        TypeError: ``search`` is neither a string nor an object with a ``search`` method.
        ImportError: HNSW was chosen and nmslib is not installed.

    Example:
        >>> import torch
        >>> resolve_search("auto", num_rows=50_000, device=torch.device("cpu"))
        CellSearch(min_recall=0.99, seed=0)
    """
    if not isinstance(search, str):
        return _checked(search)
    if search == "auto":
        search = "exact" if device.type != "cpu" or num_rows <= EXACT_UP_TO_ROWS else "cells"
    if search == "exact":
        return ExactSearch()
    if search == "cells":
        return CellSearch()
    if search == "hnsw":
        return HNSWSearch()
    raise ValueError(f"search must be {CHOICES}, got {search!r}")


def _checked(search: NeighborSearch) -> NeighborSearch:
    if isinstance(search, type):
        raise TypeError(f"search must be {CHOICES}, got the class {search.__name__}: call it first")
    if not callable(getattr(search, "search", None)):
        raise TypeError(f"search must be {CHOICES}, got {search!r}")
    return search
