"""Losses -> P(clean), against NumPy's formulas and scikit-learn's GaussianMixture."""

import random
import warnings
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from mixnn_loader.method.clean_probability import log_clean_posterior, normalize_losses
from mixnn_loader.method.gaussian_mixture import MAX_POINTS, VARIANCE_FLOOR, Mixture, fit_mixture

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Sampler = Callable[[np.random.Generator, int], Array]

GAUSSIAN: tuple[Sampler, Sampler] = (
    lambda rng, n: rng.normal(2.0, 0.4, n),
    lambda rng, n: rng.normal(6.0, 0.6, n),
)
SKEWED: tuple[Sampler, Sampler] = (
    lambda rng, n: rng.exponential(0.05, n),
    lambda rng, n: rng.normal(4.0, 1.0, n).clip(0),
)
HEAVY_TAILED: tuple[Sampler, Sampler] = (
    lambda rng, n: rng.lognormal(-4.0, 1.5, n),
    lambda rng, n: rng.gamma(6.0, 1.0, n),
)


def clean_posterior(losses: torch.Tensor) -> tuple[torch.Tensor, Mixture | None]:
    """P(clean) itself, and the mixture."""
    log_posterior, mixture = log_clean_posterior(losses)
    return log_posterior.exp(), mixture


def draw(components: tuple[Sampler, Sampler], noise: float, count: int = 4000) -> tuple[Array, Mask]:
    """Shuffled losses (count,) and a boolean (count,), true where the label is wrong."""
    rng = np.random.default_rng(round(100 * noise))
    wrong = np.arange(count) < noise * count
    losses: Array = np.empty(count)
    losses[~wrong] = components[0](rng, int((~wrong).sum()))
    losses[wrong] = components[1](rng, int(wrong.sum()))
    order = rng.permutation(count)
    return losses[order], wrong[order]


def reference_fit(normalized: Array, wrong: Mask | None = None, tol: float = 1e-9) -> GaussianMixture:
    """scikit-learn's mixture, from 10 starts of its own, or from the true components."""
    values = normalized[:, None]
    if wrong is None:
        return GaussianMixture(2, tol=tol, max_iter=1000, n_init=10, random_state=0).fit(values)
    parts = [values[~wrong], values[wrong]]
    return GaussianMixture(
        2,
        tol=tol / 100,
        max_iter=1000,
        weights_init=[len(part) / len(values) for part in parts],
        means_init=[part.mean(0) for part in parts],
        precisions_init=[[1 / part.var(0)] for part in parts],
    ).fit(values)


def reference_posterior(reference: GaussianMixture, normalized: Array) -> Array:
    clean = int(reference.means_.ravel().argmin())
    posterior: Array = reference.predict_proba(normalized[:, None])[:, clean]
    return posterior


def eq9(mixture: Mixture, normalized: Array) -> Array:
    """Eq. 9 as the paper writes it: 0/0 far away from both means."""
    clean, wrong = (
        prior * np.exp(-((normalized - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
        for mean, variance, prior in zip(mixture.means, mixture.variances, mixture.priors, strict=True)
    )
    posterior: Array = clean / (clean + wrong)
    return posterior


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    low, high = sorted((draw(st.floats(0, 1)), draw(st.floats(0, 1))))
    variances = draw(st.tuples(st.floats(1e-6, 0.3), st.floats(1e-6, 0.3)))
    clean = draw(st.floats(0.01, 0.99))
    return Mixture(means=(low, high), variances=variances, priors=(clean, 1 - clean))


def test_normalization_is_min_max_after_the_clip() -> None:
    losses = np.random.default_rng(0).gamma(2.0, size=3000)
    high = np.quantile(losses, 0.999, method="inverted_cdf")
    expected = (np.minimum(losses, high) - losses.min()) / (high - losses.min())

    normalized = normalize_losses(torch.tensor(losses))

    assert normalized.dtype == torch.float64
    np.testing.assert_allclose(normalized.numpy(), expected, atol=1e-12)


def test_small_sets_are_not_clipped() -> None:
    losses = torch.cat([torch.linspace(0, 1, 998), torch.tensor([4.0])])

    assert normalize_losses(losses)[:998].max().item() == pytest.approx(0.25)


def test_an_outlier_does_not_squeeze_the_rest() -> None:
    losses, _ = draw(GAUSSIAN, 0.4)
    spoiled = losses.copy()
    spoiled[7] = 1e6
    rest = np.arange(len(losses)) != 7

    expected, _ = clean_posterior(torch.tensor(losses))
    posterior, _ = clean_posterior(torch.tensor(spoiled))

    assert posterior[7].item() < 1e-3
    np.testing.assert_allclose(posterior.numpy()[rest], expected.numpy()[rest], atol=0.01)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_normalization_refuses_what_is_not_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="losses must be finite, got 1 of 3"):
        normalize_losses(torch.tensor([1.0, bad, 2.0]))


@pytest.mark.parametrize("function", [normalize_losses, clean_posterior])
@pytest.mark.parametrize("shape", [(0,), (3, 1), ()])
def test_losses_must_be_a_vector(function: Callable[[torch.Tensor], object], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"losses must have shape \(N,\)"):
        function(torch.ones(shape))


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.4, 0.6, 0.8, 0.9])
def test_agrees_with_scikit_learn(noise: float) -> None:
    losses, _ = draw(GAUSSIAN, noise)
    normalized = normalize_losses(torch.tensor(losses)).numpy()
    reference = reference_fit(normalized)
    order = reference.means_.ravel().argsort()

    posterior, mixture = clean_posterior(torch.tensor(losses))

    assert mixture is not None
    np.testing.assert_allclose(posterior.numpy(), reference_posterior(reference, normalized), atol=1e-3)
    np.testing.assert_allclose(mixture.means, reference.means_.ravel()[order], atol=1e-5)
    np.testing.assert_allclose(mixture.variances, reference.covariances_.ravel()[order], atol=1e-5)
    np.testing.assert_allclose(mixture.priors, reference.weights_[order], atol=1e-5)


@pytest.mark.parametrize("components", [SKEWED, HEAVY_TAILED], ids=["skewed", "heavy-tailed"])
@pytest.mark.parametrize("noise", [0.05, 0.2, 0.4, 0.6, 0.8, 0.9])
def test_skewed_losses_agree_with_scikit_learn_from_the_true_components(
    components: tuple[Sampler, Sampler], noise: float
) -> None:
    losses, wrong = draw(components, noise)
    normalized = normalize_losses(torch.tensor(losses)).numpy()
    expected = reference_posterior(reference_fit(normalized, wrong), normalized)

    posterior, mixture = clean_posterior(torch.tensor(losses))

    assert mixture is not None
    between = (normalized >= mixture.means[0]) & (normalized <= mixture.means[1])
    np.testing.assert_allclose(posterior.numpy()[between], expected[between], atol=1e-3)


@pytest.mark.parametrize("components", [GAUSSIAN, SKEWED, HEAVY_TAILED], ids=["gaussian", "skewed", "heavy"])
@pytest.mark.parametrize("noise", [0.05, 0.9])
def test_no_worse_an_optimum_than_scikit_learn_finds_in_ten_starts(
    components: tuple[Sampler, Sampler], noise: float
) -> None:
    losses, wrong = draw(components, noise, count=1000)
    normalized = normalize_losses(torch.tensor(losses))
    reference = reference_fit(normalized.numpy(), tol=1e-5)

    mixture = fit_mixture(normalized)

    assert mixture is not None
    log_likelihood = mixture.density(normalized).sum(1).log().mean().item()
    assert log_likelihood > reference.score(normalized[:, None].numpy()) - 1e-5
    assert ((mixture.posterior(normalized).numpy() < 0.5) == wrong).mean() > 0.9


def test_the_tail_of_overlapping_components_is_not_taken_for_a_component() -> None:
    overlapping: tuple[Sampler, Sampler] = (lambda rng, n: rng.normal(2, 1, n), lambda rng, n: rng.normal(4, 1, n))
    losses, wrong = draw(overlapping, 0.6)

    posterior, _ = clean_posterior(torch.tensor(losses))

    # The best threshold, halfway between the means but for the priors, is right for 85 %.
    assert ((posterior.numpy() < 0.5) == wrong).mean() > 0.8


@pytest.mark.parametrize("components", [GAUSSIAN, SKEWED, HEAVY_TAILED], ids=["gaussian", "skewed", "heavy-tailed"])
@pytest.mark.parametrize("noise", [0.05, 0.4, 0.8])
def test_the_end_is_a_fixed_point_of_expectation_maximization(
    components: tuple[Sampler, Sampler], noise: float
) -> None:
    normalized = normalize_losses(torch.tensor(draw(components, noise)[0])).numpy()

    mixture = fit_mixture(torch.tensor(normalized))

    assert mixture is not None
    densities = mixture.density(torch.tensor(normalized)).numpy()
    shares = densities / densities.sum(1, keepdims=True)
    means = shares.T @ normalized / shares.sum(0)
    variances = (shares * (normalized[:, None] - means) ** 2).sum(0) / shares.sum(0) + VARIANCE_FLOOR
    # One step further moves them by no more than the tolerance of the posteriors allows.
    np.testing.assert_allclose(mixture.means, means, atol=1e-5)
    np.testing.assert_allclose(mixture.variances, variances, rtol=1e-3)
    np.testing.assert_allclose(mixture.priors, shares.mean(0), atol=1e-5)


@pytest.mark.parametrize("components", [GAUSSIAN, SKEWED, HEAVY_TAILED], ids=["gaussian", "skewed", "heavy-tailed"])
def test_a_large_set_agrees_with_scikit_learn_on_all_of_it(components: tuple[Sampler, Sampler]) -> None:
    losses, wrong = draw(components, 0.4, count=10 * MAX_POINTS)
    normalized = normalize_losses(torch.tensor(losses)).numpy()
    expected = reference_posterior(reference_fit(normalized, wrong), normalized)

    posterior, mixture = clean_posterior(torch.tensor(losses))

    assert mixture is not None
    between = (normalized >= mixture.means[0]) & (normalized <= mixture.means[1])
    np.testing.assert_allclose(posterior.numpy()[between], expected[between], atol=1e-4)


def test_one_value_that_is_nearly_all_of_a_large_set() -> None:
    rest = np.random.default_rng(0).normal(0.3, 0.02, 50)

    mixture = fit_mixture(torch.tensor([0.0, *rest, *[1.0] * 2 * MAX_POINTS], dtype=torch.float64))

    assert mixture is not None
    np.testing.assert_allclose(mixture.means, [rest.sum() / 51, 1.0], atol=1e-3)
    np.testing.assert_allclose(mixture.priors[0], 51 / (51 + 2 * MAX_POINTS), rtol=1e-3)


@settings(deadline=None)
@given(mixtures())
def test_separation_is_ashmans_d(mixture: Mixture) -> None:
    expected = np.sqrt(2) * np.abs(np.diff(mixture.means)) / np.linalg.norm(np.sqrt(mixture.variances))

    assert mixture.separation == pytest.approx(expected.item(), rel=1e-12)


def test_a_separation_of_two_is_two_standard_deviations() -> None:
    mixture = Mixture(means=(0.3, 0.5), variances=(0.01, 0.01), priors=(0.2, 0.8))

    assert mixture.separation == pytest.approx(2.0)


@settings(deadline=None)
@given(mixtures(), st.lists(st.floats(-0.5, 1.5), min_size=2, max_size=30))
def test_posterior_falls_with_the_loss(mixture: Mixture, losses: list[float]) -> None:
    posterior = mixture.posterior(torch.tensor(sorted(losses), dtype=torch.float64))

    assert ((posterior >= 0) & (posterior <= 1)).all()
    # The log-odds are a difference of numbers up to 1e6, exact to 1e-10.
    assert (posterior.diff() <= 1e-9).all()


@settings(deadline=None)
@given(mixtures(), st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_posterior_is_eq9_between_the_means(mixture: Mixture, fractions: list[float]) -> None:
    low, high = mixture.means
    losses = low + np.array(fractions) * (high - low)
    deviations = (losses - np.array(mixture.means)[:, None]) / np.sqrt(mixture.variances)[:, None]
    losses = losses[(np.abs(deviations) < 30).all(0)]

    posterior = mixture.posterior(torch.tensor(losses))

    np.testing.assert_allclose(posterior.numpy(), eq9(mixture, losses), atol=1e-9)


@pytest.mark.parametrize(
    ("variances", "beyond"), [((0.005, 0.05), -1.0), ((0.05, 0.005), 2.0)], ids=["clean narrower", "clean wider"]
)
def test_posterior_stands_still_where_eq9_turns_back(variances: tuple[float, float], beyond: float) -> None:
    mixture = Mixture(means=(0.2, 0.6), variances=variances, priors=(0.5, 0.5))
    grid = np.linspace(-1.0, 2.0, 300_001)
    extreme = eq9(mixture, grid).max() if beyond < 0 else eq9(mixture, grid).min()

    posterior = mixture.posterior(torch.tensor([beyond])).item()

    assert posterior == pytest.approx(extreme, abs=1e-6)
    assert abs(posterior - eq9(mixture, np.array([beyond]))[0]) > 0.5


def test_density_integrates_to_the_priors() -> None:
    mixture = Mixture(means=(0.2, 0.7), variances=(0.002, 0.01), priors=(0.3, 0.7))
    grid = torch.linspace(-1, 2, 30_001, dtype=torch.float64)

    areas = torch.trapezoid(mixture.density(grid), grid, dim=0)

    np.testing.assert_allclose(areas.numpy(), mixture.priors, atol=1e-6)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_neither_scale_nor_offset_nor_order_matters(seed: int, scale: float, offset: float) -> None:
    losses, _ = draw(GAUSSIAN, 0.4, count=300)
    order = np.random.default_rng(seed).permutation(len(losses))
    expected, _ = clean_posterior(torch.tensor(losses))

    posterior, _ = clean_posterior(torch.tensor(scale * losses + offset)[order])

    np.testing.assert_allclose(posterior.numpy(), expected.numpy()[order], atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 50, width=32), min_size=1, max_size=40))
def test_any_finite_losses_give_a_monotone_posterior_and_at_most_one_warning(values: list[float]) -> None:
    losses = torch.tensor(sorted(values))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        posterior, _ = clean_posterior(losses)

    assert len(caught) <= 1
    assert ((posterior >= 0) & (posterior <= 1)).all()
    assert (posterior.diff() <= 1e-6).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_samples_without_a_finite_loss_stay_out_of_the_fit(bad: float) -> None:
    losses, _ = draw(GAUSSIAN, 0.4)
    spoiled = losses.copy()
    spoiled[::10] = bad
    kept = ~np.isin(np.arange(len(losses)), np.arange(0, len(losses), 10))

    posterior, mixture = clean_posterior(torch.tensor(spoiled))
    expected, expected_mixture = clean_posterior(torch.tensor(losses[kept]))

    assert mixture == expected_mixture
    assert (posterior[::10] == 0).all()
    assert torch.equal(posterior[torch.tensor(kept)], expected)


def test_all_losses_non_finite_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="all 3 losses are NaN or infinite: the model has diverged"):
        clean_posterior(torch.tensor([float("nan"), float("inf"), float("nan")]))


@pytest.mark.parametrize("losses", [[0.7] * 50, [0.0] * 2000, [3.0]], ids=["same", "zeros", "single"])
def test_losses_all_the_same_give_the_neutral_posterior(losses: list[float]) -> None:
    with pytest.warns(RuntimeWarning, match="two components could not be fitted") as caught:
        posterior, mixture = clean_posterior(torch.tensor([*losses, float("nan")]))

    assert len(caught) == 1
    assert mixture is None
    assert posterior.tolist() == [0.5] * len(losses) + [0.0]


@pytest.mark.parametrize(("small", "large"), [(1, 1), (500, 500), (99, 1), (1, 99), (1999, 1), (1, 1999)])
def test_of_two_distinct_losses_the_small_one_is_clean(small: int, large: int) -> None:
    losses = torch.tensor([0.3] * small + [0.8] * large)

    with pytest.warns(RuntimeWarning, match="half of the losses or more are the same value") as caught:
        posterior, mixture = clean_posterior(losses)

    assert len(caught) == 1
    assert mixture is not None
    assert mixture.priors[0] == pytest.approx(small / (small + large), abs=1e-4)
    np.testing.assert_allclose(posterior.numpy(), [1.0] * small + [0.0] * large, atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 1.0]), min_size=2, max_size=12).filter(lambda x: len(set(x)) > 1))
@example([1.0, 0.0, 1.0, 0.2])
def test_it_says_when_half_of_the_losses_are_the_same(values: list[float]) -> None:
    expected = 2 * max(Counter(values).values()) >= len(values)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clean_posterior(torch.tensor(values))

    assert any("half of the losses or more" in str(warning.message) for warning in caught) == expected


def test_mostly_exact_zeros() -> None:
    losses, _ = draw(GAUSSIAN, 0.4, count=1000)
    losses[:700] = 0.0

    with pytest.warns(RuntimeWarning, match="half of the losses or more are the same value") as caught:
        posterior, mixture = clean_posterior(torch.tensor(losses))

    assert len(caught) == 1
    assert mixture is not None
    assert mixture.priors[0] == pytest.approx(0.7, abs=1e-3)
    np.testing.assert_allclose(posterior.numpy(), [1.0] * 700 + [0.0] * 300, atol=1e-3)


@pytest.mark.parametrize(
    ("value", "low", "high"), [(0.0, 0.4, 1.0), (0.1, 0.4, 1.0), (1 / 3, 0.5, 1.0), (0.7, 0.0, 0.5), (1.0, 0.0, 0.5)]
)
def test_a_component_collapsed_onto_one_value_keeps_the_variance_floor(value: float, low: float, high: float) -> None:
    rest = np.random.default_rng(0).uniform(low, high, 200)

    mixture = fit_mixture(torch.tensor([*rest, *[value] * 999], dtype=torch.float64))

    assert mixture is not None
    assert min(mixture.variances) == pytest.approx(1e-6, rel=0.5)
    assert all(np.isfinite(mixture.means + mixture.variances + mixture.priors))


@pytest.mark.parametrize("values", [[], [0.4], [0.4, 0.4], [0.1, 0.9, float("nan")]])
def test_no_mixture_without_two_components(values: list[float]) -> None:
    assert fit_mixture(torch.tensor(values)) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_floating_dtype(dtype: torch.dtype) -> None:
    losses, wrong = draw(GAUSSIAN, 0.4, count=500)

    posterior, _ = clean_posterior(torch.tensor(losses, requires_grad=True).to(dtype))

    assert posterior.dtype == torch.float32
    assert not posterior.requires_grad
    assert ((posterior.numpy() < 0.5) == wrong).all()


def test_the_fit_is_deterministic_and_leaves_the_random_streams_alone() -> None:
    losses = torch.tensor(draw(SKEWED, 0.4, count=500)[0])
    first = clean_posterior(losses)[0]
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate()

    again = clean_posterior(losses)[0]

    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_a_changed_default_device_does_not_matter() -> None:
    losses = torch.tensor(draw(GAUSSIAN, 0.4, count=500)[0])
    expected = clean_posterior(losses)[0]

    with torch.device("meta"):
        posterior = clean_posterior(losses)[0]

    assert torch.equal(posterior, expected)


def test_the_logarithm_does_not_underflow() -> None:
    mixture = Mixture(means=(0.1, 0.8), variances=(1e-4, 1e-2), priors=(0.6, 0.4))
    losses = torch.tensor([0.7, 0.75, 0.8], dtype=torch.float64)
    assert (mixture.posterior(losses).float() == 0).all()
    log_densities = [
        np.log(prior) - 0.5 * (np.log(2 * np.pi * variance) + (losses.numpy() - mean) ** 2 / variance)
        for mean, variance, prior in zip(mixture.means, mixture.variances, mixture.priors, strict=True)
    ]
    expected = log_densities[0] - np.logaddexp(*log_densities)
    np.testing.assert_allclose(mixture.log_posterior(losses), expected, rtol=1e-9)
