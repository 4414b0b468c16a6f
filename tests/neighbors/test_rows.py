"""Where the middle of the rows is, and which of a few candidates are nearest, against NumPy."""

import numpy as np
import pytest
import torch

from mixnn_loader.neighbors.rows import center, nearest_of


@pytest.mark.parametrize("num_rows", [4, 5, 1024])
def test_the_middle_is_the_median(num_rows: int) -> None:
    rows = torch.randn(num_rows, 3, generator=torch.Generator().manual_seed(0)).double() + 1e6
    lower_middle = np.sort(rows.numpy(), axis=0)[(num_rows - 1) // 2]
    expected = rows.numpy() - lower_middle
    np.testing.assert_allclose(center(rows).numpy(), expected / np.abs(expected).max(), atol=1e-6)


def test_nearest_by_differences() -> None:
    rows = torch.tensor([[1e4], [1e4 + 3], [1e4 + 1], [1e4 - 2]])
    nearest = nearest_of(rows, torch.tensor([0, 3]), torch.tensor([[1, 0, 2, 3], [3, 2, 1, 0]]), 2)
    assert nearest.neighbors.tolist() == [[2, 3], [0, 2]]
    assert nearest.distances.tolist() == [[1.0, 2.0], [2.0, 3.0]]


def test_the_row_itself_is_at_infinity() -> None:
    nearest = nearest_of(torch.zeros(3, 2), torch.tensor([1]), torch.tensor([[1, 1, 2]]), 2)
    assert nearest.neighbors.tolist() == [[2, 1]]
    assert nearest.distances.tolist() == [[0.0, torch.inf]]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    candidates = torch.arange(50).expand(50, 50)
    whole = nearest_of(rows, torch.arange(50), candidates, 5)
    monkeypatch.setattr("mixnn_loader.neighbors.rows.BLOCK_BYTES", 1)
    assert torch.equal(nearest_of(rows, torch.arange(50), candidates, 5).neighbors, whole.neighbors)
