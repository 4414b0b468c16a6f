"""The ready-made sources of neighbors, by their names."""

from typing import Any, Literal, get_args

from mixnn_loader._utils.checks import check_choice
from mixnn_loader.neighbors.in_batch import NearestInBatch, RandomInBatch
from mixnn_loader.neighbors.in_dataset import NearestInDataset, RandomInDataset
from mixnn_loader.neighbors.protocol import NeighborSearch
from mixnn_loader.neighbors.source import NeighborSource, Sees

Neighbors = Literal["dataset", "batch", "random", "random-batch"]


def neighbor_source(
    neighbors: str | NeighborSource, pool: int | None = None, search: str | NeighborSearch = "auto"
) -> NeighborSource:
    """Return the source of a name, or the caller's own.

    Args:
        neighbors: one of ``"dataset"``, ``"batch"``, ``"random"`` and ``"random-batch"``, or an object.
        pool: for ``"dataset"``, see `NearestInDataset`.
        search: for ``"dataset"``.

    Raises:
        ValueError: there is no such name, or ``pool`` or ``search`` is given to another than ``"dataset"``.
        TypeError: it is neither a name nor a source.
    """
    if not isinstance(neighbors, str):
        _check_source(neighbors)
        shown = repr(neighbors)
    else:
        check_choice("neighbors", neighbors, get_args(Neighbors))
        if neighbors == "dataset":
            return NearestInDataset(pool, search)
        shown = repr(neighbors)
    if pool is not None:
        raise ValueError(
            f"neighbor_pool must be None with neighbors={shown}, got {pool!r}; only neighbors='dataset' has a pool"
        )
    if search != "auto":
        raise ValueError(
            f"search must be 'auto' with neighbors={shown}, got {search!r}; only neighbors='dataset' searches"
        )
    if not isinstance(neighbors, str):
        return neighbors
    return {"batch": NearestInBatch, "random": RandomInDataset, "random-batch": RandomInBatch}[neighbors]()


def _check_source(neighbors: Any) -> None:
    if isinstance(neighbors, type):
        raise TypeError(f"neighbors must be a name or an object, got the class {neighbors.__name__}: call it first")
    missing = [name for name in ("sees", "pool_size", "search", "draw", "pair") if not hasattr(neighbors, name)]
    if missing:
        raise TypeError(
            f"neighbors must be one of {', '.join(map(repr, get_args(Neighbors)))} or an object like "
            f"mixnn_loader.neighbors.NeighborSource, got {neighbors!r}, which has no {', '.join(missing)}; derive its "
            "class from NeighborSource, which answers for all of them"
        )
    if neighbors.sees not in get_args(Sees):
        raise ValueError(
            f"sees of neighbors= must be one of {', '.join(map(repr, get_args(Sees)))}, got {neighbors.sees!r}"
        )
