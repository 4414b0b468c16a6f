"""Mixing, against a loop."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixnn_loader.method.mixing import mix


def random_mixture(
    generator: torch.Generator, num_neighbors: int, trailing: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Originals (4, ...), partners (4, K, ...) and weights (4, K+1)."""
    originals = torch.randn(4, *trailing, generator=generator).to(dtype)
    partners = torch.randn(4, num_neighbors, *trailing, generator=generator).to(dtype)
    return originals, partners, torch.randn(4, num_neighbors + 1, generator=generator).softmax(dim=1)


def mixed_in_a_loop(originals: Tensor, partners: Tensor, weights: Tensor) -> NDArray[np.float64]:
    x, neighbors, w = (tensor.double().numpy() for tensor in (originals, partners, weights))
    mixed = np.empty_like(x)
    for i in range(len(x)):
        mixed[i] = w[i, 0] * x[i]
        for k in range(neighbors.shape[1]):
            mixed[i] += w[i, k + 1] * neighbors[i, k]
    return mixed


@pytest.mark.parametrize("num_neighbors", [0, 1, 2, 3])
@pytest.mark.parametrize("trailing", [(), (5,), (3, 4, 4), (2, 3, 1, 2)])
def test_mix_equals_a_loop(generator: torch.Generator, num_neighbors: int, trailing: tuple[int, ...]) -> None:
    originals, partners, weights = random_mixture(generator, num_neighbors, trailing)
    mixed = mix(originals, partners, weights)
    np.testing.assert_allclose(mixed, mixed_in_a_loop(originals, partners, weights), atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 5e-3), (torch.bfloat16, 4e-2), (torch.float64, 1e-12)]
)
def test_mix_keeps_the_type(generator: torch.Generator, dtype: torch.dtype, tolerance: float) -> None:
    originals, partners, weights = random_mixture(generator, 2, (5,), dtype)
    mixed = mix(originals, partners, weights)
    assert mixed.dtype == dtype
    np.testing.assert_allclose(mixed.double(), mixed_in_a_loop(originals, partners, weights), atol=tolerance)


@pytest.mark.parametrize("num_neighbors", [0, 1, 3])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_mix_keeps_the_memory_format(
    generator: torch.Generator, num_neighbors: int, memory_format: torch.memory_format
) -> None:
    originals, partners, weights = random_mixture(generator, num_neighbors, (3, 4, 5))
    mixed = mix(originals.contiguous(memory_format=memory_format), partners, weights)
    assert mixed.is_contiguous(memory_format=memory_format)
    np.testing.assert_allclose(mixed, mixed_in_a_loop(originals, partners, weights), atol=1e-6)


@pytest.mark.parametrize("num_neighbors", [0, 2])
def test_mix_returns_a_new_tensor(generator: torch.Generator, num_neighbors: int) -> None:
    inputs = random_mixture(generator, num_neighbors, (5,))
    before = [tensor.clone() for tensor in inputs]
    mix(*inputs).zero_()
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(inputs, before, strict=True))
