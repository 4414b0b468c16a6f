"""Weights, against NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor

from mixnn_loader.method.weights import (
    DoubtMixupWeights,
    MixupWeights,
    beta_weights,
    doubt_weights,
    posterior_weights,
    uniform_weights,
)

PROBABILITIES = st.floats(0, 1, width=32)
FAR_FROM_UNDERFLOW = st.just(0.0) | st.floats(2.0**-60, 1, width=32)


@st.composite
def weighings(draw: st.DrawFn, probabilities: st.SearchStrategy[float] = PROBABILITIES) -> tuple[Tensor, Tensor]:
    """Posteriors (B, K+1) and found (B, K)."""
    num_rows, num_neighbors = draw(st.integers(1, 4)), draw(st.integers(0, 4))
    posteriors = draw(arrays(np.float32, (num_rows, num_neighbors + 1), elements=probabilities))
    found = draw(arrays(np.bool_, (num_rows, num_neighbors)))
    return torch.from_numpy(posteriors), torch.from_numpy(found)


def present(found: Tensor) -> NDArray[np.bool_]:
    """(B, K+1), true for the sample itself and the neighbors that exist."""
    return np.insert(found.numpy(), 0, values=True, axis=1)


def shares(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = values / values.sum(axis=1, keepdims=True)
    return result


def assert_weights(weights: Tensor, found: Tensor) -> None:
    np.testing.assert_allclose(weights.double().sum(dim=1), np.ones(len(weights)), atol=1e-6)
    assert (weights >= 0).all()
    assert (weights.numpy()[~present(found)] == 0).all()


@settings(deadline=None)
@given(weighings())
def test_posterior_weights_are_convex_and_ordered_as_the_posteriors(weighing: tuple[Tensor, Tensor]) -> None:
    posteriors, found = weighing
    weights = posterior_weights(posteriors.log(), found)
    assert_weights(weights, found)
    for row, exists, given_row in zip(weights.numpy(), present(found), posteriors.numpy(), strict=True):
        ordered = row[exists][np.argsort(given_row[exists])]
        assert (np.diff(ordered) >= -1e-6).all()


@settings(deadline=None)
@given(weighings(), st.data())
def test_a_greater_posterior_never_lowers_its_weight(weighing: tuple[Tensor, Tensor], data: st.DataObject) -> None:
    posteriors, found = weighing
    column = data.draw(st.integers(0, posteriors.shape[1] - 1))
    raised = posteriors.clone()
    raised[:, column] += data.draw(PROBABILITIES) * (1 - raised[:, column])
    change = posterior_weights(raised.log(), found) - posterior_weights(posteriors.log(), found)
    assert (change[:, column] >= -1e-6).all()
    change[:, column] = 0
    assert (change <= 1e-6).all()


@settings(deadline=None)
@given(weighings(FAR_FROM_UNDERFLOW))
def test_posterior_weights_equal_the_plain_ratio_where_it_is_defined(weighing: tuple[Tensor, Tensor]) -> None:
    posteriors, found = weighing
    members = np.where(present(found), posteriors.double().numpy(), 0)
    defined = members.sum(axis=1) > 0
    weights = posterior_weights(posteriors.log(), found).numpy()
    np.testing.assert_allclose(weights[defined], shares(members[defined]), atol=1e-6)


@settings(deadline=None)
@given(weighings(), PROBABILITIES)
def test_equal_posteriors_give_equal_weights(weighing: tuple[Tensor, Tensor], posterior: float) -> None:
    posteriors, found = weighing
    weights = posterior_weights(torch.full_like(posteriors, posterior).log(), found)
    np.testing.assert_allclose(weights, shares(present(found).astype(np.float64)), atol=1e-6)
    torch.testing.assert_close(uniform_weights(found), weights)


@pytest.mark.parametrize(
    ("posteriors", "expected"),
    [
        ([0.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]),
        ([1e-45, 1e-45, 1e-45], [1 / 3, 1 / 3, 1 / 3]),
        ([0.0, 1e-44, 1.0], [0.0, 0.0, 1.0]),
        ([3e-30, 1e-30, 0.0], [0.75, 0.25, 0.0]),
        ([1e-37, 1e-37, 2e-37], [0.25, 0.25, 0.5]),
    ],
)
def test_tiny_float32_posteriors(posteriors: list[float], expected: list[float]) -> None:
    weights = posterior_weights(torch.tensor([posteriors]).log(), torch.ones(1, 2, dtype=torch.bool))
    assert weights.dtype == torch.float32
    np.testing.assert_allclose(weights, [expected], atol=1e-6)


def test_posteriors_too_small_for_float32_keep_their_ratio() -> None:
    log_posteriors = torch.tensor([[-800.0, -800.0 + np.log(3.0), -torch.inf]])
    weights = posterior_weights(log_posteriors, torch.ones(1, 2, dtype=torch.bool))
    np.testing.assert_allclose(weights, [[0.25, 0.75, 0.0]], atol=1e-4)


@settings(deadline=None)
@given(weighings())
def test_beta_weights_share_the_rest_equally(weighing: tuple[Tensor, Tensor]) -> None:
    drawn, found = weighing
    own = drawn[:, 0]
    expected = np.zeros(drawn.shape)
    for row, exists in enumerate(found.numpy()):
        expected[row, 0] = own[row] if exists.any() else 1
        expected[row, 1:][exists] = (1 - own[row]) / exists.sum() if exists.any() else 0
    weights = beta_weights(own, found)
    assert_weights(weights, found)
    np.testing.assert_allclose(weights, expected, atol=1e-6)


@settings(deadline=None)
@given(weighings(FAR_FROM_UNDERFLOW))
def test_a_sample_is_mixed_as_far_as_it_is_doubted(weighing: tuple[Tensor, Tensor]) -> None:
    posteriors, found = weighing
    members = np.where(present(found), posteriors.double().numpy(), 0)
    defined = members.sum(axis=1) > 0
    own = posteriors[:, :1].double().numpy()
    weights = doubt_weights(posteriors.log(), found)
    assert_weights(weights, found)
    expected = (1 - own[defined]) * shares(members[defined])
    expected[:, :1] += own[defined]
    np.testing.assert_allclose(weights[defined], expected, atol=1e-6)


@settings(deadline=None)
@given(weighings(), st.integers(0, 2**32))
def test_mixup_leaves_a_sample_at_least_a_half(weighing: tuple[Tensor, Tensor], seed: int) -> None:
    posteriors, found = weighing
    weights = MixupWeights()(posteriors.log(), found, np.random.default_rng(seed))
    assert_weights(weights, found)
    assert (weights[:, 0] >= 0.5).all()
    others, exists = weights[:, 1:].numpy(), found.numpy()
    for row, there in zip(others, exists, strict=True):
        np.testing.assert_allclose(row[there], row[there].mean() if there.any() else 0, atol=1e-6)


@settings(deadline=None)
@given(weighings(), st.integers(0, 2**32))
def test_a_doubted_sample_is_mixed_as_by_mixup_and_a_credible_one_less(
    weighing: tuple[Tensor, Tensor], seed: int
) -> None:
    posteriors, found = weighing
    mixup = MixupWeights()(posteriors.log(), found, np.random.default_rng(seed)).numpy()
    weights = DoubtMixupWeights()(posteriors.log(), found, np.random.default_rng(seed))
    assert_weights(weights, found)
    own = posteriors[:, :1].double().numpy()
    np.testing.assert_allclose(weights[:, 1:], (1 - own * own.mean()) * mixup[:, 1:], atol=1e-6)


def test_the_share_of_mixup_is_uniform_above_a_half() -> None:
    found = torch.ones(4000, 1, dtype=torch.bool)
    own = MixupWeights()(torch.zeros(4000, 2), found, np.random.default_rng(0))[:, 0].sort().values
    expected = torch.linspace(0.5, 1, 4000)
    torch.testing.assert_close(own, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("weigh", [posterior_weights, doubt_weights, lambda p, found: beta_weights(p[:, 0], found)])
def test_weighing_changes_no_input(weigh: Callable[[Tensor, Tensor], Tensor]) -> None:
    posteriors, found = torch.tensor([[0.5, 0.2], [0.0, 0.9]]), torch.tensor([[False], [True]])
    before = posteriors.clone(), found.clone()
    weigh(posteriors, found)
    assert torch.equal(posteriors, before[0])
    assert torch.equal(found, before[1])
