"""From what a user says about the search to the object that does it."""

import torch

from mixnn_loader.neighbors.exact import ExactSearch
from mixnn_loader.neighbors.hnsw import HNSWSearch
from mixnn_loader.neighbors.protocol import NeighborSearch

EXACT_UP_TO_ROWS = 100_000
"""On a CPU, more rows than this are searched by HNSW.

Measured on two CPU cores at d = 512, exact against HNSW: 1 s and 3 s for 10,000 rows, 20 s and 50 s for 50,000. The
first grows with N², the second with about N log N, so they meet somewhat above 100,000. More cores speed up all of the
exact search, but of HNSW only the queries.
"""

CHOICES = '"auto", "exact", "hnsw" or an object with a search(representations, k, queries) method'


def resolve_search(search: str | NeighborSearch, *, num_rows: int, device: torch.device) -> NeighborSearch:
    """Choose the backend.

    Args:
        search: ``"exact"``, ``"hnsw"``, a backend of the caller's own, or ``"auto"``: exact on an accelerator and for
            up to `EXACT_UP_TO_ROWS` rows, HNSW for more rows on a CPU.
        num_rows: rows that will be searched.
        device: where their representations will be.

    Raises:
        ValueError: ``search`` is a string with no meaning.
        TypeError: ``search`` is neither a string nor an object with a ``search`` method.
        ImportError: HNSW was chosen and nmslib is not installed.

    Example:
        >>> import torch
        >>> resolve_search("auto", num_rows=50_000, device=torch.device("cpu"))
        ExactSearch(memory_budget=268435456)
    """
    if not isinstance(search, str):
        return _checked(search)
    if search == "auto":
        search = "exact" if device.type != "cpu" or num_rows <= EXACT_UP_TO_ROWS else "hnsw"
    if search == "exact":
        return ExactSearch()
    if search == "hnsw":
        return HNSWSearch()
    raise ValueError(f"search must be {CHOICES}, got {search!r}")


def _checked(search: NeighborSearch) -> NeighborSearch:
    if isinstance(search, type):
        raise TypeError(f"search must be {CHOICES}, got the class {search.__name__}: call it first")
    if not callable(getattr(search, "search", None)):
        raise TypeError(f"search must be {CHOICES}, got {search!r}")
    return search
