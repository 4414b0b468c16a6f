"""HNSWSearch against brute force, and against what nmslib does on a bad day."""

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixnn_loader.neighbors import HNSWSearch, NeighborSearch


def clustered_rows(num_rows: int, width: int, num_clusters: int = 10, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    centers = 2 * rng.normal(size=(num_clusters, width))
    rows = centers[rng.integers(num_clusters, size=num_rows)] + rng.normal(size=(num_rows, width))
    return torch.from_numpy(rows.astype(np.float32))


def nearest_distances(rows: Tensor, k: int) -> Tensor:
    """(N, k) distances by brute force in float64."""
    distances = torch.cdist(rows.double(), rows.double()).fill_diagonal_(torch.inf)
    return distances.topk(k, dim=1, largest=False).values


def distances_to(rows: Tensor, neighbors: Tensor) -> Tensor:
    return (rows.double()[neighbors] - rows.double()[:, None]).square().sum(dim=2).sqrt()


@pytest.mark.parametrize(("num_rows", "offset"), [(5_000, 0.0), (1_000, 1e4)])
def test_recall_on_clustered_rows(num_rows: int, offset: float) -> None:
    rows = clustered_rows(num_rows, 64) + offset
    neighbors = HNSWSearch().search(rows, 1)
    assert neighbors.shape == (num_rows, 1)
    assert neighbors.dtype == torch.int64
    hits = distances_to(rows, neighbors) <= nearest_distances(rows, 1) * (1 + 1e-5)
    assert hits.double().mean() >= 0.99


def test_more_neighbors_than_ef_search() -> None:
    rows = clustered_rows(600, 16)
    neighbors = HNSWSearch(ef_search=1).search(rows, 50)
    hits = distances_to(rows, neighbors) <= nearest_distances(rows, 50)[:, -1:] * (1 + 1e-5)
    assert hits.double().mean() >= 0.99


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_same_rows_same_answer(num_threads: int) -> None:
    rows = clustered_rows(2_000, 32)
    rough = HNSWSearch(m=4, ef_construction=8, ef_search=4)  # as sensitive to the graph as can be
    first = rough.search(rows, 2)
    rough.search(clustered_rows(500, 8, seed=1), 2)
    again = HNSWSearch(m=4, ef_construction=8, ef_search=4, num_threads=num_threads)
    assert torch.equal(again.search(rows, 2), first)


def test_queries_are_answered_in_their_order() -> None:
    rows = clustered_rows(300, 7)
    queries = torch.tensor([299, 3, 100, 3])
    assert torch.equal(HNSWSearch().search(rows, 4, queries), HNSWSearch().search(rows, 4)[queries])


def test_no_queries_no_answers() -> None:
    none = torch.empty(0, dtype=torch.int64)
    assert HNSWSearch().search(clustered_rows(5, 2), 3, none).shape == (0, 3)


def test_many_duplicates() -> None:
    rows = clustered_rows(4, 8).repeat(200, 1)
    neighbors = HNSWSearch().search(rows, 5)
    assert (neighbors != torch.arange(800)[:, None]).all()
    assert (neighbors % 4 == torch.arange(800)[:, None] % 4).all()


def test_two_rows() -> None:
    assert HNSWSearch().search(torch.tensor([[1.0], [2.0]]), 1).tolist() == [[1], [0]]


def test_several_build_threads() -> None:
    rows = clustered_rows(1_000, 16)
    neighbors = HNSWSearch(build_threads=2).search(rows, 1)
    hits = distances_to(rows, neighbors) <= nearest_distances(rows, 1) * (1 + 1e-5)
    assert hits.double().mean() >= 0.99


def fake_nmslib(monkeypatch: pytest.MonkeyPatch, answers: Sequence[Sequence[int]]) -> dict[str, int]:
    """Have nmslib give these answers, and return the parameters that it will have been given."""
    params: dict[str, int] = {}

    def answer(rows: Any, k: int, num_threads: int) -> list[tuple[Any, Any]]:
        assert len(rows) == len(answers)
        assert max(map(len, answers)) <= k
        assert num_threads == 0
        return [(np.array(row, dtype=np.int32), np.zeros(len(row), dtype=np.float32)) for row in answers]

    index = SimpleNamespace(
        addDataPointBatch=lambda _: None,
        createIndex=params.update,
        setQueryTimeParams=params.update,
        knnQueryBatch=answer,
    )
    monkeypatch.setitem(sys.modules, "nmslib", SimpleNamespace(init=lambda **_: index))
    return params


LINE = torch.tensor([[0.0], [1.0], [3.0], [7.0], [15.0]])


def test_self_anywhere_in_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nmslib(monkeypatch, [[0, 1, 2], [2, 1, 4], [4, 3, 2], [1, 2, 4], [0, 1, 2]])
    assert HNSWSearch().search(LINE, 2).tolist() == [[1, 2], [2, 4], [4, 3], [1, 2], [0, 1]]


def test_short_answers_are_completed_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nmslib(monkeypatch, [[0, 4, 3], [1, 4], [], [3], [4, 0]])
    assert HNSWSearch().search(LINE, 2).tolist() == [[4, 3], [0, 2], [1, 0], [2, 1], [3, 2]]


def test_short_answers_to_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nmslib(monkeypatch, [[4], [0, 4]])
    assert HNSWSearch().search(LINE, 1, torch.tensor([4, 0])).tolist() == [[3], [4]]


@pytest.mark.parametrize(("machine", "threads"), [("x86_64", 4), ("arm64", 1), ("aarch64", 1)])
def test_build_threads_by_machine(monkeypatch: pytest.MonkeyPatch, machine: str, threads: int) -> None:
    params = fake_nmslib(monkeypatch, [[1]] * 5)
    monkeypatch.setattr("platform.machine", lambda: machine)
    HNSWSearch(build_threads=4).search(LINE, 1)
    assert params["indexThreadQty"] == threads


@pytest.mark.parametrize(("ef_search", "k", "least"), [(200, 1, 200), (1, 1, 2), (3, 4, 5)])
def test_ef_search_covers_the_neighbors(monkeypatch: pytest.MonkeyPatch, ef_search: int, k: int, least: int) -> None:
    params = fake_nmslib(monkeypatch, [[]] * 5)
    HNSWSearch(ef_search=ef_search).search(LINE, k)
    assert params["efSearch"] >= least


def test_nmslib_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nmslib", None)
    with pytest.raises(ImportError, match="python -m pip install nmslib"):
        HNSWSearch()


def test_satisfies_the_protocol() -> None:
    assert isinstance(HNSWSearch(), NeighborSearch)


def test_argument_out_of_range() -> None:
    with pytest.raises(ValueError, match="m must be an integer >= 2, got 1"):
        HNSWSearch(m=1)
    with pytest.raises(ValueError, match="ef_construction must be an integer >= 1, got 0"):
        HNSWSearch(ef_construction=0)
    with pytest.raises(ValueError, match="ef_search must be an integer >= 1, got -5"):
        HNSWSearch(ef_search=-5)
    with pytest.raises(ValueError, match="build_threads must be an integer >= 1, got 0"):
        HNSWSearch(build_threads=0)
    with pytest.raises(ValueError, match="num_threads must be an integer >= 0, got -1"):
        HNSWSearch(num_threads=-1)


def test_bad_rows_and_queries() -> None:
    rows = clustered_rows(4, 2)
    with pytest.raises(ValueError, match="representations must be floating point"):
        HNSWSearch().search(rows.long(), 1)
    with pytest.raises(ValueError, match=r"k must be an integer >= 1 and < 4.*got 4"):
        HNSWSearch().search(rows, 4)
    with pytest.raises(ValueError, match=r"queries must be row numbers in 0\.\.3, got 9"):
        HNSWSearch().search(rows, 1, torch.tensor([9]))
