"""Mixing, against a loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from mixnn_loader.method.mixing import mix, mix_targets


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


@st.composite
def poisoned_mixtures(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Originals (B, 2, 3), partners (B, K, 2, 3), weights (B, K+1): weights of zero, and what is not finite there."""
    batch_size, num_neighbors = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    dtype = draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
    members = batch_size * (num_neighbors + 1)
    # 1e-9 is zero in float16, and not in the others.
    one_weight = st.sampled_from([0.0, 1e-9, 0.25, 1.0])
    weights = torch.tensor(draw(st.lists(one_weight, min_size=members, max_size=members)))
    value = st.floats(-4, 4, width=16)
    inputs = torch.tensor(draw(st.lists(value, min_size=6 * members, max_size=6 * members))).to(dtype).view(members, 6)
    poisons = torch.tensor(
        draw(st.lists(st.sampled_from([0.0, torch.nan, torch.inf, -torch.inf]), min_size=members, max_size=members))
    )
    weightless = weights.to(dtype) == 0
    inputs[weightless, draw(st.integers(0, 5))] = poisons[weightless].to(dtype)
    shared = inputs.view(batch_size, num_neighbors + 1, 2, 3)
    return shared[:, 0], shared[:, 1:], weights.view(batch_size, num_neighbors + 1)


@settings(deadline=None)
@given(poisoned_mixtures())
def test_who_weighs_nothing_takes_no_part(mixture: tuple[Tensor, Tensor, Tensor]) -> None:
    originals, partners, weights = mixture
    before = [tensor.clone() for tensor in mixture]
    finite, finite_partners = (x.nan_to_num(nan=0, posinf=0, neginf=0) for x in (originals, partners))

    mixed = mix(*mixture)

    expected = mixed_in_a_loop(finite, finite_partners, weights.to(originals.dtype))
    assert mixed.isfinite().all()
    np.testing.assert_allclose(mixed.double(), expected, rtol=4e-2, atol=4e-2)
    assert torch.equal(mixed, mix(finite, finite_partners, weights)), "and the others are mixed as if it were not there"
    assert all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(mixture, before, strict=True))


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_a_weightless_neighbor_leaves_the_sample_and_its_memory_format(
    generator: torch.Generator, poison: float, memory_format: torch.memory_format
) -> None:
    originals, partners, weights = random_mixture(generator, 2, (3, 4, 5))
    partners[1] = poison
    weights[1] = torch.tensor([1.0, 0.0, 0.0])
    mixed = mix(originals.contiguous(memory_format=memory_format), partners, weights)
    assert torch.equal(mixed[1], originals[1])
    assert mixed.is_contiguous(memory_format=memory_format)


def test_an_input_that_is_not_finite_shows_where_it_has_a_weight() -> None:
    mixed = mix(torch.ones(2, 3), torch.full((2, 1, 3), torch.nan), torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    assert mixed.isnan().tolist() == [[True] * 3, [False] * 3]


@pytest.mark.parametrize("num_neighbors", [0, 1, 3])
def test_targets_are_mixed_as_in_eq5(generator: torch.Generator, num_neighbors: int) -> None:
    soft_targets = torch.randn(4, num_neighbors + 1, 6, generator=generator).softmax(dim=2)
    weights = torch.randn(4, num_neighbors + 1, generator=generator).softmax(dim=1)
    mixed = mix_targets(soft_targets, weights)
    np.testing.assert_allclose(mixed, np.einsum("bk,bkc->bc", weights, soft_targets), atol=1e-6)


def test_no_partner_is_left_out_for_want_of_a_weight() -> None:
    with pytest.raises(IndexError):
        mix(torch.zeros(2, 3), torch.ones(2, 3, 3), torch.full((2, 2), 0.5))
