"""Cells against brute force, and centers against clusters that anyone can see."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixnn_loader.neighbors.cells import Cells, find_centers
from mixnn_loader.neighbors.precision import full_float32


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clusters(num_rows: int, width: int, num_clusters: int = 8) -> tuple[Tensor, Tensor]:
    """Rows in far apart clusters of radius about one, and the number of each row's cluster."""
    centers = 100 * torch.randn(num_clusters, width, generator=generator(1))
    labels = torch.randint(num_clusters, (num_rows,), generator=generator(2))
    return centers[labels] + torch.randn(num_rows, width, generator=generator(3)), labels


def nearest_distances(rows: Tensor, k: int) -> Tensor:
    distances = torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return distances.fill_diagonal_(torch.inf).topk(k, dim=1, largest=False).values


def distances_to(rows: Tensor, neighbors: Tensor) -> Tensor:
    return (rows.double()[neighbors] - rows.double()[:, None]).square().sum(dim=2).sqrt()


def test_a_row_is_in_the_cell_of_its_nearest_center() -> None:
    rows, _ = clusters(500, 3)
    cells = Cells.build(rows, rows[:12])
    nearest = torch.cdist(rows.double(), cells.centers.double()).argmin(dim=1)
    assert (cells.cell == nearest).double().mean() > 0.99  # but for centers at the same distance
    assert torch.equal(cells.members[cells.places], torch.arange(500))
    for cell, (start, stop) in enumerate(zip(cells.starts, cells.starts[1:], strict=False)):
        assert cells.members[start:stop].tolist() == (cells.cell == cell).nonzero().flatten().tolist()


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 60), st.integers(1, 4), st.integers(1, 9), st.integers(0, 99), st.data())
def test_all_cells_together_are_exact(
    num_rows: int, width: int, num_cells: int, seed: int, data: st.DataObject
) -> None:
    rows = torch.randint(-3, 4, (num_rows, width), generator=generator(seed)).float()  # many coincide
    k = data.draw(st.integers(1, num_rows - 1))
    num_cells = min(num_cells, num_rows)
    with full_float32("cpu"):
        cells = Cells.build(rows, rows[:num_cells])
        neighbors = cells.search(torch.arange(num_rows), num_cells, k).neighbors
    assert all(row not in found and len(set(found)) == k for row, found in enumerate(neighbors.tolist()))
    torch.testing.assert_close(distances_to(rows, neighbors), nearest_distances(rows, k))


@pytest.mark.parametrize("k", [1, 4])
def test_the_nearest_cells_hold_the_nearest_rows(k: int) -> None:
    rows, labels = clusters(900, 16)
    centers = torch.stack([rows[labels == label][0] for label in range(8)])
    with full_float32("cpu"):
        neighbors, distances = Cells.build(rows, centers).search(torch.arange(900), 2, k)
    assert (distances[:, 1:] >= distances[:, :-1]).all()
    found = distances_to(rows, neighbors) <= nearest_distances(rows, k)[:, -1:] * 1.001
    assert found.double().mean() > 0.98
    assert (labels[neighbors] == labels[:, None]).double().mean() > 0.98


def test_too_few_rows_in_the_cells() -> None:
    rows = torch.tensor([[0.0], [1.0], [100.0], [101.0], [102.0]])
    cells = Cells.build(rows, rows[[0, 2]])
    assert sorted(torch.bincount(cells.cell).tolist()) == [2, 3]
    nearest = cells.search(torch.arange(5), 1, 2)
    assert nearest.distances[:, 1].isinf().tolist() == [True, True, False, False, False]
    assert nearest.neighbors[:2, 0].tolist() == [1, 0]


def test_the_answer_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = clusters(700, 8)
    everyone = torch.arange(700)
    whole = Cells.build(rows, rows[:20]).search(everyone, 3, 2)
    monkeypatch.setattr("mixnn_loader.neighbors.cells.MEMORY_BUDGET", 2_000)
    parts = Cells.build(rows, rows[:20]).search(everyone, 3, 2)
    assert (whole.neighbors == parts.neighbors).double().mean() > 0.99
    torch.testing.assert_close(whole.distances, parts.distances, rtol=1e-4, atol=1e-2)  # of rows a hundred apart


def test_tiles_stay_within_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    addmm = torch.addmm

    def recording(bias: Tensor, left: Tensor, right: Tensor, *, alpha: float) -> Tensor:
        product = addmm(bias, left, right, alpha=alpha)
        sizes.append(product.nbytes)
        return product

    monkeypatch.setattr("mixnn_loader.neighbors.cells.MEMORY_BUDGET", 2**20)
    cells = Cells.build(torch.ones(3000, 2), torch.ones(4, 2))  # all in one cell
    monkeypatch.setattr(torch, "addmm", recording)
    cells.search(torch.arange(3000), 4, 1)
    assert max(sizes) <= 2**20
    assert sum(sizes) >= 3000 * 3000 * 4


def test_centers_find_clusters() -> None:
    rows, _ = clusters(2000, 5, num_clusters=4)
    centers = find_centers(rows, 16)
    nearest = torch.cdist(rows, centers).amin(dim=1)
    assert nearest.max() < 50  # the clusters are a hundred apart: none has gone without a center
    assert nearest.mean() < torch.cdist(rows, rows[:16]).amin(dim=1).mean()
    assert centers.isfinite().all()


def test_a_center_is_the_mean_of_its_rows() -> None:
    rows = torch.tensor([[0.0], [50.0], [2.0], [54.0]])
    assert sorted(find_centers(rows, 2).flatten().tolist()) == [1.0, 52.0]
