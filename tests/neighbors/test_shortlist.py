"""The shortlist against NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mixnn_loader.neighbors.shortlist import shortlist


def rows_in_a_cube(num_rows: int, width: int) -> Tensor:
    return 2 * torch.rand(num_rows, width, generator=torch.Generator().manual_seed(0)) - 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("num_rows", "size"), [(40, 40), (900, 3), (900, 60), (900, 500)])
def test_the_smallest_distances_between_rounded_rows(dtype: torch.dtype, num_rows: int, size: int) -> None:
    rows = rows_in_a_cube(num_rows, 5)
    queries = torch.tensor([num_rows - 1, 0, 7])
    found = shortlist(rows, queries, size, dtype=dtype, memory_budget=10**6)
    rounded = rows.to(dtype).double().numpy()
    distances = np.square(rounded[queries.numpy(), None] - rounded).sum(axis=2)
    expected = np.sort(distances, axis=1)[:, :size]
    tolerance = 2**-8 if dtype == torch.bfloat16 else 1e-5
    np.testing.assert_allclose(found.distances.numpy(), expected, rtol=tolerance, atol=1e-5)
    chosen = np.take_along_axis(distances, found.neighbors.numpy(), axis=1)
    np.testing.assert_allclose(chosen, found.distances.numpy(), rtol=tolerance, atol=1e-5)
    assert all(len(set(row)) == size for row in found.neighbors.tolist())


def test_bfloat16_tells_near_neighbors_apart_in_large_norms() -> None:
    rows = torch.tensor([[1.0, 0.0], [1.0, 2**-7], [1.0, 2**-6], [1.0, 2**-5]])  # all exact in bfloat16
    found = shortlist(rows, torch.tensor([0]), 4, dtype=torch.bfloat16, memory_budget=10**6)
    assert found.neighbors.tolist() == [[0, 1, 2, 3]]
    torch.testing.assert_close(found.distances, torch.tensor([[0.0, 2.0**-14, 2.0**-12, 2.0**-10]]))
