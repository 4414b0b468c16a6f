"""ExactSearch against brute force in float64."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from mixnn_loader.neighbors import ExactSearch, NeighborSearch


def all_distances(rows: Tensor) -> npt.NDArray[np.float64]:
    values = rows.double().numpy()
    distances: npt.NDArray[np.float64] = np.sqrt(((values[:, None] - values) ** 2).sum(axis=2))
    return distances


def assert_nearest(rows: Tensor, neighbors: Tensor, k: int) -> None:
    """Compare by distance, so that ties may fall either way."""
    distances = all_distances(rows)
    found = np.take_along_axis(distances, neighbors.numpy(), axis=1)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_allclose(found, np.sort(distances, axis=1)[:, :k], rtol=1e-5)
    assert (neighbors != torch.arange(len(rows))[:, None]).all()


def normal_rows(num_rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(num_rows, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("k", [1, 2, 7, 299])
@pytest.mark.parametrize("width", [1, 3, 48])
def test_finds_what_brute_force_finds(k: int, width: int) -> None:
    rows = normal_rows(300, width)
    neighbors = ExactSearch().search(rows, k)
    assert neighbors.dtype == torch.int64
    assert neighbors.shape == (300, k)
    assert_nearest(rows, neighbors, k)


@pytest.mark.parametrize("offset", [1e2, 1e4, -1e5])
@pytest.mark.parametrize("k", [1, 5])
def test_far_from_the_origin(offset: float, k: int) -> None:
    rows = normal_rows(400, 32) + offset
    assert_nearest(rows, ExactSearch().search(rows, k), k)


def test_float64_rows_are_centered_before_they_are_narrowed() -> None:
    rows = normal_rows(200, 8).double() + 1e9
    assert_nearest(rows, ExactSearch().search(rows, 3), 3)


@pytest.mark.parametrize("k", [1, 3])
def test_clusters_much_tighter_than_their_distance(k: int) -> None:
    centers = 100 * normal_rows(10, 64, seed=1)
    rows = centers.repeat_interleave(50, dim=0) + normal_rows(500, 64, seed=2)
    assert_nearest(rows, ExactSearch().search(rows, k), k)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_squares_neither_overflow_nor_vanish(scale: float) -> None:
    rows = normal_rows(100, 8) * scale
    assert_nearest(rows, ExactSearch().search(rows, 4), 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rows(dtype: torch.dtype) -> None:
    rows = normal_rows(100, 8).to(dtype)
    assert_nearest(rows, ExactSearch().search(rows, 4), 4)


def test_autocast_changes_nothing() -> None:
    rows = torch.linspace(0, 1, 300)[:, None].square()  # bfloat16 has a few hundred values in here
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_nearest(rows, ExactSearch().search(rows, 3), 3)


@pytest.mark.parametrize("memory_budget", [1, 5_000, 20_000])
def test_any_memory_budget_gives_the_same_answer(memory_budget: int) -> None:
    rows = normal_rows(101, 6)
    assert_nearest(rows, ExactSearch(memory_budget=memory_budget).search(rows, 3), 3)


def test_distances_in_memory_stay_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    mm = torch.mm

    def recording(left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
        sizes.append(out.nbytes)
        return mm(left, right, out=out)

    monkeypatch.setattr(torch, "mm", recording)
    ExactSearch(memory_budget=100_000, shortlist_dtype=torch.float32).search(normal_rows(1000, 4), 2)
    assert len(sizes) > 1
    assert max(sizes) <= 100_000
    assert sum(sizes) >= 1000 * 1000 * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("k", [1, 6])
def test_tiles_are_put_together(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, k: int) -> None:
    monkeypatch.setattr("mixnn_loader.neighbors.shortlist.TILE_COLUMNS", 400)
    monkeypatch.setattr("mixnn_loader.neighbors.shortlist.TILE_ROWS", 100)
    rows = normal_rows(1501, 6)
    assert_nearest(rows, ExactSearch(shortlist_dtype=dtype).search(rows, k), k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-3])
def test_what_products_do_not_tell_apart_is_searched_with_wider_ones(dtype: torch.dtype, spread: float) -> None:
    centers = normal_rows(10, 64, seed=1)
    rows = centers.repeat_interleave(60, dim=0) + spread * normal_rows(600, 64, seed=2)
    assert_nearest(rows, ExactSearch(shortlist_dtype=dtype).search(rows, 1), 1)


def test_a_row_far_from_all_others_takes_no_exactness_from_them() -> None:
    rows = normal_rows(500, 16)
    rows[0] *= 1e4
    assert_nearest(rows, ExactSearch(shortlist_dtype=torch.bfloat16).search(rows, 3), 3)


@pytest.mark.parametrize("value", [1e8, 1e13, 1e17])
def test_a_huge_row_does_not_move_the_others_together(value: float) -> None:
    rows = normal_rows(500, 16)
    rows[7] = value
    others = torch.arange(500) != 7
    neighbors = ExactSearch().search(rows, 3)
    places = torch.where(others, others.cumsum(0) - 1, -1)  # among the others
    assert_nearest(rows[others], places[neighbors[others]], 3)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> dict[torch.dtype, int]:
    """How many queries were compared with all rows, by the type of the products."""
    counts: dict[torch.dtype, int] = {}
    mm = torch.mm

    def counting(left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
        counts[left.dtype] = counts.get(left.dtype, 0) + len(left)
        return mm(left, right, out=out)

    monkeypatch.setattr(torch, "mm", counting)
    return counts


def test_bfloat16_settles_nearly_every_row(compared: dict[torch.dtype, int]) -> None:
    ExactSearch(shortlist_dtype=torch.bfloat16).search(normal_rows(2000, 12), 1)
    assert compared[torch.bfloat16] == 2000
    assert compared.get(torch.float32, 0) < 100


@pytest.mark.parametrize("is_fast", [False, True])
@pytest.mark.parametrize("k", [1, 10, 11, 200])
def test_hardly_a_row_is_searched_twice(
    k: int, is_fast: bool, compared: dict[torch.dtype, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixnn_loader.neighbors.exact.has_fast_bfloat16", lambda _: is_fast)
    rows = normal_rows(2000, 12)
    assert_nearest(rows, ExactSearch().search(rows, k), k)
    assert 2000 <= sum(compared.values()) < 2100
    assert (torch.bfloat16 in compared) is (is_fast and k <= 10)


def test_queries_are_answered_in_their_order() -> None:
    rows = normal_rows(60, 5)
    queries = torch.tensor([59, 0, 17, 0])
    assert torch.equal(ExactSearch().search(rows, 4, queries), ExactSearch().search(rows, 4)[queries])
    assert torch.equal(ExactSearch().search(rows, 4, queries.int()), ExactSearch().search(rows, 4)[queries])


def test_no_queries_no_answers() -> None:
    none = torch.empty(0, dtype=torch.int64)
    assert ExactSearch().search(normal_rows(5, 2), 3, none).shape == (0, 3)


def test_duplicates_are_neighbors_and_self_is_not() -> None:
    rows = normal_rows(20, 3).repeat(3, 1)
    neighbors = ExactSearch().search(rows, 2)
    expected = {i: {(i + 20) % 60, (i + 40) % 60} for i in range(60)}
    assert {i: set(row) for i, row in enumerate(neighbors.tolist())} == expected


def test_all_rows_identical() -> None:
    neighbors = ExactSearch().search(torch.full((30, 4), 2.5), 29)
    assert all(sorted([*row, i]) == list(range(30)) for i, row in enumerate(neighbors.tolist()))


def test_two_rows() -> None:
    assert ExactSearch().search(torch.tensor([[1.0], [2.0]]), 1).tolist() == [[1], [0]]


def test_input_is_left_alone() -> None:
    rows = normal_rows(50, 4).requires_grad_()
    before = rows.detach().clone()
    ExactSearch().search(rows, 1)
    assert torch.equal(rows.detach(), before)


def test_satisfies_the_protocol() -> None:
    assert isinstance(ExactSearch(), NeighborSearch)


@pytest.mark.parametrize(
    ("rows", "k", "message"),
    [
        (torch.zeros(4, 2, 2), 1, r"representations must have shape \(N, d\).*\(4, 2, 2\)"),
        (torch.zeros(4, 0), 1, r"representations must have shape \(N, d\).*\(4, 0\)"),
        (torch.zeros(4, 2, dtype=torch.int64), 1, "representations must be floating point, got torch.int64"),
        (torch.zeros(4, 2), 0, "k must be an integer >= 1 and < 4.*got 0"),
        (torch.zeros(4, 2), 4, "k must be an integer >= 1 and < 4.*got 4"),
        (torch.zeros(1, 2), 1, "k must be an integer >= 1 and < 1.*got 1"),
    ],
)
def test_bad_rows(rows: Tensor, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExactSearch().search(rows, k)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (torch.tensor([0, 4]), r"queries must be row numbers in 0\.\.3, got 4"),
        (torch.tensor([-1]), r"queries must be row numbers in 0\.\.3, got -1"),
        (torch.tensor([[0]]), r"queries must be row numbers.*of shape \(1, 1\)"),
        (torch.tensor([True, False, True, False]), "queries must be row numbers.*torch.bool"),
        (torch.tensor([0.0]), "queries must be row numbers.*torch.float32"),
    ],
)
def test_bad_queries(queries: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExactSearch().search(torch.zeros(4, 2), 1, queries)


def test_bad_memory_budget() -> None:
    with pytest.raises(ValueError, match="memory_budget must be a number of bytes >= 1, got 0"):
        ExactSearch(memory_budget=0)


def test_bad_shortlist_dtype() -> None:
    with pytest.raises(
        ValueError, match=r"shortlist_dtype must be torch\.float32, torch\.bfloat16 or None, got torch\.f"
    ):
        ExactSearch(shortlist_dtype=torch.float16)
