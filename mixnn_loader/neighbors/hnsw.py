"""Approximate search for many rows: a hierarchical navigable small-world graph, by nmslib."""

import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixnn_loader._utils.checks import check_count
from mixnn_loader.neighbors.exact import ExactSearch
from mixnn_loader.neighbors.rows import center, check_rows, query_rows, without_self

EF_SEARCH_A_NEIGHBOR = 2
"""What a query keeps in view must exceed what it returns, or the last neighbors are whatever was met first."""

SINGLE_THREADED_BUILDS = frozenset({"aarch64", "arm64"})
"""Machines on which nmslib's parallel construction is unreliable."""


@dataclass(frozen=True, kw_only=True)
class HNSWSearch:
    """Search a small-world graph (Malkov & Yashunin, 2018, https://arxiv.org/abs/1603.09320).

    About O(N log N), and approximate: recall is that of the parameters. With the defaults the nearest
    neighbor was right for 99.4 % of 50,000 rows of 512 values in ten round Gaussian clusters, the hardest
    kind, and for 99.98 % where the clusters came out of a random ReLU layer. The graph is built anew
    for each search, since all representations move from one epoch to the next.

    Attributes:
        m: links a row keeps in each layer of the graph (nmslib's ``M``). More: better recall, more memory.
        ef_construction: candidates in view while the graph is built. More: a better graph, built slower.
        ef_search: candidates in view while a row is searched for; raised to twice the neighbors
            asked for where that is more. 100 answers in two thirds of the time, for 98 % in those clusters.
        build_threads: threads that build the graph. With one, the answer depends on the input alone, so
            that a resumed run gets the neighbors of the run that was never stopped; two halve the
            building time, but the graph then varies from run to run. Always one on ARM.
        num_threads: threads that search it, 0 for one a core. The answer does not depend on it.

    Raises:
        ValueError: an argument is out of range.
        ImportError: nmslib is not installed.

    Example:
        >>> points = torch.randn(1000, 16, generator=torch.Generator().manual_seed(0))
        >>> HNSWSearch().search(points, k=3).shape
        torch.Size([1000, 3])
    """

    m: int = 16
    ef_construction: int = 200
    ef_search: int = 200
    build_threads: int = 1
    num_threads: int = 0

    def __post_init__(self) -> None:
        least = {"m": 2, "ef_construction": 1, "ef_search": 1, "build_threads": 1, "num_threads": 0}
        for name, minimum in least.items():
            check_count(name, getattr(self, name), minimum)
        _import_nmslib()  # now rather than after the warm-up epochs

    @torch.no_grad()
    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Tensor:
        """Find about the ``k`` nearest other rows; see `NeighborSearch.search`.

        Where the graph leads to fewer than ``k`` others, the row is answered by `ExactSearch`.
        """
        check_rows(representations, k)
        queries = query_rows(queries, representations)
        if len(queries) == 0:
            return queries.new_empty(0, k)

        rows = center(representations).cpu().numpy()
        index = self._build(rows)
        index.setQueryTimeParams({"efSearch": max(self.ef_search, EF_SEARCH_A_NEIGHBOR * (k + 1))})
        asked = queries.cpu()
        answers = index.knnQueryBatch(rows[asked.numpy()], k=k + 1, num_threads=self.num_threads)
        found = torch.from_numpy(_pad([ids for ids, _ in answers], k + 1))  # (Q, k + 1)

        neighbors, complete = without_self(found, asked, k)
        neighbors, complete = neighbors.to(queries.device), complete.to(queries.device)
        if not complete.all():
            neighbors[~complete] = ExactSearch().search(representations, k, queries[~complete])
        return neighbors

    def _build(self, rows: npt.NDArray[np.float32]) -> Any:
        threads = 1 if platform.machine().lower() in SINGLE_THREADED_BUILDS else self.build_threads
        # nmslib draws each row's layer from a generator that belongs to the thread and is never seeded
        # again: the same rows, indexed twice in one thread, give two graphs. A new thread starts it afresh.
        with ThreadPoolExecutor(max_workers=1) as executor:
            return executor.submit(_new_index, rows, self.m, self.ef_construction, threads).result()


def _new_index(rows: npt.NDArray[np.float32], m: int, ef_construction: int, threads: int) -> Any:
    index = _import_nmslib().init(method="hnsw", space="l2")
    index.addDataPointBatch(rows)
    index.createIndex({"M": m, "efConstruction": ef_construction, "post": 0, "indexThreadQty": threads})
    return index


def _pad(answers: list[npt.NDArray[np.int32]], width: int) -> npt.NDArray[np.int64]:
    """Stack answers of up to ``width`` row numbers as (Q, width), with -1 after the short ones."""
    lengths = np.array([len(answer) for answer in answers])
    padded = np.full((len(answers), width), -1, dtype=np.int64)
    padded[np.arange(width) < lengths[:, None]] = np.concatenate(answers)
    return padded


def _import_nmslib() -> ModuleType:
    try:
        return import_module("nmslib")
    except ImportError as error:
        raise ImportError(
            "HNSWSearch needs nmslib: install it with `python -m pip install nmslib`, or search exactly, "
            'with search="exact"'
        ) from error
