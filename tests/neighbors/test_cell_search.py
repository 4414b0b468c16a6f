"""CellSearch: the recall that it promises, and exact search where it cannot keep it."""

import pytest
import torch
from torch import Tensor

from mixnn_loader.neighbors import CellSearch, ExactSearch, NeighborSearch
from mixnn_loader.neighbors.cell_search import MIN_ROWS, SAMPLE_ROWS
from mixnn_loader.neighbors.cells import NUM_ROUNDS, ROWS_A_CELL, Cells

NUM_ROWS = MIN_ROWS + 500


def learned_rows(num_rows: int = NUM_ROWS, width: int = 32, seed: int = 0) -> Tensor:
    """Classes that spread in a few directions each, through a ReLU."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (num_rows,), generator=generator)
    centers = torch.randn(10, width, generator=generator)
    directions = torch.randn(10, 4, width, generator=generator)
    spread = torch.einsum("nl,nlw->nw", torch.randn(num_rows, 4, generator=generator), directions[labels])
    return (2 * centers[labels] + spread).relu()


def nearest_distances(rows: Tensor, sample: Tensor, k: int) -> Tensor:
    distances = torch.cdist(rows[sample].double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist")
    distances[torch.arange(len(sample)), sample] = torch.inf
    return distances.topk(k, dim=1, largest=False).values


def recall(rows: Tensor, sample: Tensor, neighbors: Tensor) -> float:
    distances = (rows[neighbors].double() - rows[sample, None].double()).square().sum(dim=2).sqrt()
    farthest = nearest_distances(rows, sample, neighbors.shape[1])[:, -1:]
    return float((distances <= farthest * (1 + 1e-6)).double().mean())


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_recall_is_what_it_says(k: int, offset: float) -> None:
    rows = learned_rows() + offset
    neighbors, report = CellSearch().search_and_report(rows, k)
    sample = torch.arange(0, NUM_ROWS, 3)
    assert neighbors.shape == (NUM_ROWS, k)
    assert neighbors.dtype == torch.int64
    assert report.how == "cells"
    assert report.share < 0.3
    assert report.recall >= 0.99
    assert recall(rows, sample, neighbors[sample]) == pytest.approx(report.recall, abs=0.008)
    assert (neighbors != torch.arange(NUM_ROWS)[:, None]).all()


def test_nearest_first_and_distinct() -> None:
    rows = learned_rows()
    neighbors = CellSearch().search(rows, 5)
    distances = (rows[neighbors] - rows[:, None]).square().sum(dim=2)
    assert (distances[:, 1:] >= distances[:, :-1] * (1 - 1e-5)).all()
    assert (neighbors.sort(dim=1).values.diff(dim=1) > 0).all()


def test_a_lower_floor_searches_less() -> None:
    rows = learned_rows()
    shares = [CellSearch(min_recall=floor).search_and_report(rows, 1)[1].share for floor in (0.5, 0.9, 0.99)]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]


def test_the_share_is_that_of_the_pairs_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = 0
    addmm = torch.addmm

    def counting(bias: Tensor, left: Tensor, right: Tensor, *, alpha: float) -> Tensor:
        nonlocal pairs
        pairs += len(left) * right.shape[1]
        return addmm(bias, left, right, alpha=alpha)

    monkeypatch.setattr(torch, "addmm", counting)
    share = CellSearch().search_and_report(learned_rows(), 1)[1].share
    searched = NUM_ROWS + SAMPLE_ROWS  # the second sample is searched once more
    num_cells = round(NUM_ROWS**0.5)
    to_centers = num_cells * (NUM_ROUNDS * num_cells * ROWS_A_CELL + NUM_ROWS + SAMPLE_ROWS + searched)
    assert (pairs - to_centers) / (searched * NUM_ROWS) == pytest.approx(share, rel=0.05)


def test_the_answer_is_that_of_the_arguments() -> None:
    rows = learned_rows()
    first = CellSearch().search(rows, 2)
    torch.rand(3)
    CellSearch(seed=1).search(learned_rows(seed=1), 1)
    assert torch.equal(CellSearch().search(rows, 2), first)


def test_another_seed_draws_another_sample() -> None:
    rows = learned_rows()
    reports = {CellSearch(seed=seed).search_and_report(rows, 1)[1] for seed in range(3)}
    assert len(reports) > 1


def test_the_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    CellSearch().search(learned_rows(), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_queries_are_answered_in_their_order() -> None:
    rows = learned_rows()
    queries = torch.arange(NUM_ROWS).flip(0)[:MIN_ROWS]
    some, report = CellSearch().search_and_report(rows, 1, queries)
    assert report.how == "cells"
    sample = torch.arange(0, MIN_ROWS, 5)
    assert recall(rows, queries[sample], some[sample]) >= 0.98
    few = torch.tensor([5, 0, 5])
    assert torch.equal(CellSearch().search(rows, 3, few), ExactSearch().search(rows, 3, few))
    assert CellSearch().search(rows, 3, few[:0]).shape == (0, 3)


def exactly(rows: Tensor, k: int) -> None:
    neighbors, report = CellSearch().search_and_report(rows, k)
    assert report == ("exact", 1.0, 1.0)
    sample = torch.arange(0, len(rows), 20)
    assert recall(rows, sample, neighbors[sample]) == 1.0


def test_few_rows_are_searched_exactly() -> None:
    exactly(learned_rows(MIN_ROWS - 1), 2)


def test_rows_without_cells_are_searched_exactly() -> None:
    exactly(torch.randn(NUM_ROWS, 100, generator=torch.Generator().manual_seed(0)), 1)


def test_below_the_floor_all_rows_are_searched_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = learned_rows()
    monkeypatch.setattr("mixnn_loader.neighbors.cell_search._probes_needed", lambda *_: 1)
    assert CellSearch(min_recall=0.1).search_and_report(rows, 1)[1].how == "cells"
    exactly(rows, 1)


def test_what_the_cells_leave_out_is_searched_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = learned_rows()
    lonely = torch.arange(4) + 100
    rows[lonely] += 1e3 * torch.eye(32)[:4]  # each row far from everything
    build = Cells.build
    monkeypatch.setattr(Cells, "build", lambda rows, _: build(rows, torch.cat([rows[lonely], rows[200:300]])))
    monkeypatch.setattr("mixnn_loader.neighbors.cell_search._probes_needed", lambda *_: 1)
    neighbors, report = CellSearch(min_recall=0.1).search_and_report(rows, 2)
    assert report.how == "cells"
    assert torch.equal(neighbors[lonely].sort().values, ExactSearch().search(rows, 2, lonely).sort().values)


def test_many_duplicates() -> None:
    rows = learned_rows(NUM_ROWS // 4).repeat(4, 1)
    neighbors = CellSearch().search(rows, 3)
    assert (neighbors != torch.arange(len(rows))[:, None]).all()
    same = (rows[neighbors] == rows[:, None]).all(dim=2)
    assert same.double().mean() > 0.999


def test_all_rows_identical() -> None:
    neighbors = CellSearch().search(torch.full((NUM_ROWS, 3), 2.5), 2)
    assert (neighbors.sort(dim=1).values.diff(dim=1) > 0).all()
    assert (neighbors != torch.arange(NUM_ROWS)[:, None]).all()


def test_satisfies_the_protocol() -> None:
    assert isinstance(CellSearch(), NeighborSearch)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"min_recall must be a number in \[0, 1\], got 1.5"):
        CellSearch(min_recall=1.5)
    with pytest.raises(ValueError, match="seed must be an integer >= 0, got -1"):
        CellSearch(seed=-1)
    with pytest.raises(ValueError, match=r"k must be an integer >= 1 and < 4.*got 4"):
        CellSearch().search(torch.zeros(4, 2), 4)
    with pytest.raises(ValueError, match=r"representations must have shape \(N, d\)"):
        CellSearch().search(torch.zeros(4), 1)
    with pytest.raises(ValueError, match=r"queries must be row numbers in 0\.\.3, got 7"):
        CellSearch().search(torch.zeros(4, 2), 1, torch.tensor([7]))
