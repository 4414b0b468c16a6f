"""What holds for every backend and any rows, many duplicates among them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import Tensor

from mixnn_loader.neighbors import ExactSearch, HNSWSearch, NeighborSearch

BACKENDS = [
    pytest.param(ExactSearch(), id="exact"),
    pytest.param(ExactSearch(shortlist_dtype=torch.float32), id="exact, float32"),
    pytest.param(ExactSearch(shortlist_dtype=torch.bfloat16), id="exact, bfloat16"),
    pytest.param(ExactSearch(memory_budget=1), id="exact, row by row"),
    pytest.param(HNSWSearch(), id="hnsw"),
]
for_every_backend = pytest.mark.parametrize("search", BACKENDS)


@st.composite
def rows_and_k(draw: st.DrawFn) -> tuple[Tensor, int]:
    """Points of a small grid: sums and squares are exact, and many points coincide."""
    num_rows = draw(st.integers(2, 24))
    shape = (num_rows, draw(st.integers(1, 4)))
    points = draw(npst.arrays("float32", shape, elements=st.integers(-3, 3).map(float)))
    return torch.from_numpy(points), draw(st.integers(1, num_rows - 1))


def squared_distances(rows: Tensor, neighbors: Tensor) -> Tensor:
    return (rows[neighbors] - rows[:, None]).square().sum(dim=2)


@for_every_backend
@settings(deadline=None, max_examples=40)
@given(rows_and_k())
def test_k_distinct_others_nearest_first(search: NeighborSearch, case: tuple[Tensor, int]) -> None:
    rows, k = case
    neighbors = search.search(rows, k)
    assert neighbors.shape == (len(rows), k)
    for row, found in enumerate(neighbors.tolist()):
        assert row not in found
        assert len(set(found)) == k
        assert set(found) <= set(range(len(rows)))
    distances = squared_distances(rows, neighbors)
    assert (distances[:, 1:] >= distances[:, :-1]).all()


@for_every_backend
@settings(deadline=None, max_examples=40)
@given(rows_and_k())
def test_no_row_left_out_is_nearer(search: NeighborSearch, case: tuple[Tensor, int]) -> None:
    rows, k = case
    everything = (rows[:, None] - rows).square().sum(dim=2).fill_diagonal_(torch.inf)
    nearest = everything.sort(dim=1).values[:, :k]
    assert torch.equal(squared_distances(rows, search.search(rows, k)), nearest)


@for_every_backend
@settings(deadline=None, max_examples=40)
@given(rows_and_k(), st.sampled_from([-4096.0, 0.5, 100.0, 2.0**17]))
def test_moving_all_rows_together_changes_nothing(
    search: NeighborSearch, case: tuple[Tensor, int], offset: float
) -> None:
    rows, k = case
    here, there = search.search(rows, k), search.search(rows + offset, k)
    assert torch.equal(squared_distances(rows, here), squared_distances(rows, there))


@for_every_backend
@settings(deadline=None, max_examples=20)
@given(rows_and_k(), st.data())
def test_queries_pick_rows_of_the_whole_answer(
    search: NeighborSearch, case: tuple[Tensor, int], data: st.DataObject
) -> None:
    rows, k = case
    queries = torch.tensor(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1)))
    some, everyone = search.search(rows, k, queries), search.search(rows, k)
    assert (some != queries[:, None]).all()
    assert torch.equal(
        (rows[some] - rows[queries, None]).square().sum(dim=2), squared_distances(rows, everyone)[queries]
    )
