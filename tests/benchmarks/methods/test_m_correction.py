"""M-correction: the Beta mixture, the two losses, and that its mixing is MixNN's with a random partner."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import roc_auc_score
from toy_measures import assert_goes_on, plain_accuracy
from toy_task import Toy, accuracy, auroc, toy, train

from benchmarks.harness.batches import Batch
from benchmarks.methods.common.beta_mixture import fit_mixture, noise_table, scaled
from benchmarks.methods.m_correction import MCorrection, MCorrectionMixing, corrected_targets, mixed, mixing_weights
from mixnn_loader.functional import posterior_weights

Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def made() -> Toy:
    return toy(rate=0.4, epochs=20)


def density(values: Array, a: float, b: float) -> Array:
    """Beta(a, b) at values in (0, 1)."""
    norm = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
    densities: Array = norm * values ** (a - 1) * (1 - values) ** (b - 1)
    return densities


def expected_table(values: Array) -> tuple[Array, Array]:
    """Ten steps of EM with moments, written down anew; the shape parameters (2, 2) and P(wrong) at 100 places."""
    shapes, shares = np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([0.5, 0.5])
    for _ in range(10):
        parts = np.array([share * density(values, *shape) for share, shape in zip(shares, shapes, strict=True)])
        parts = np.maximum(parts, 1e-12)
        parts /= parts.sum(axis=0)
        for component in range(2):
            mean = np.average(values, weights=parts[component])
            variance = np.average((values - mean) ** 2, weights=parts[component])
            concentration = mean * (1 - mean) / variance - 1
            shapes[component] = mean * concentration, (1 - mean) * concentration
        shares = parts.mean(axis=1)
    places = np.linspace(1e-12, 1 - 1e-12, 100)
    parts = np.array([share * density(places, *shape) for share, shape in zip(shares, shapes, strict=True)])
    table = parts[1] / (parts.sum(axis=0) + 1e-12)
    table[table.argmax() :] = table.max()
    return shapes, table


def two_kinds() -> tuple[Array, npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(0)
    is_noisy = rng.random(2000) < 0.4
    return np.where(is_noisy, rng.beta(8, 3, 2000), rng.beta(2, 9, 2000)), is_noisy


def test_the_mixture_is_fitted_as_published() -> None:
    values, is_noisy = two_kinds()
    mixture = fit_mixture(torch.from_numpy(values))
    shapes, table = expected_table(values)
    np.testing.assert_allclose(torch.stack([mixture.a, mixture.b], dim=1).numpy(), shapes, rtol=1e-6)
    np.testing.assert_allclose(noise_table(mixture).numpy(), table, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(mixture.shares.numpy(), [0.6, 0.4], atol=0.05)
    assert roc_auc_score(is_noisy, table[(100 * values).astype(int)]) > 0.95


def test_the_table_does_not_fall_beyond_its_maximum() -> None:
    # A narrow component of wrong labels: the wide one of right labels wins again at the largest losses.
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.beta(60, 40, 300), rng.uniform(0.001, 0.999, 700)])
    mixture = fit_mixture(torch.from_numpy(values))
    places = torch.linspace(1e-12, 1 - 1e-12, 100, dtype=torch.float64)
    densities = mixture.weighted_densities(places)
    raw = densities[1] / densities.sum(dim=0)
    assert raw[-1] < raw.max() - 0.1  # so there is something to mend
    assert noise_table(mixture)[-1] == noise_table(mixture).max()


def test_losses_are_scaled_by_a_range() -> None:
    losses = np.random.default_rng(0).gamma(2.0, size=50).astype(np.float32)
    low, high = np.percentile(losses, [5, 95])
    expected = np.clip((losses - low - 1e-5) / (high - low - 1e-5 + 1e-6), 1e-3, 1 - 1e-3)
    found = scaled(torch.from_numpy(losses), torch.tensor([low, high], dtype=torch.float32))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_losses_that_are_all_the_same_leave_the_table_as_it_is() -> None:
    assert not fit_mixture(torch.full((50,), 0.5, dtype=torch.float64)).is_usable


def test_the_loss_of_m_dyr_h() -> None:
    rng = np.random.default_rng(0)
    logits, noisy, weight = rng.normal(size=(6, 4)), rng.random(6), 0.3
    given, predicted, partner = rng.integers(4, size=6), rng.integers(4, size=6), rng.permutation(6)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    mean = np.exp(log_p).mean(axis=0)
    expected = sum(0.25 * np.log(0.25 / mean))
    for row, other in enumerate(partner):
        for share, sample in ((weight, row), (1 - weight, other)):
            expected -= share * (1 - noisy[sample]) * log_p[row, given[sample]] / 6
            expected -= share * noisy[sample] * log_p[row, predicted[sample]] / 6
    targets = corrected_targets(torch.eye(4)[given].double(), torch.from_numpy(noisy), torch.eye(4)[predicted].double())
    method = MCorrection(toy().task)
    found = method.loss_of_mixed(torch.from_numpy(logits), mixed(targets, torch.from_numpy(partner), weight), 1.0)
    assert found.item() == pytest.approx(expected)


def test_inputs_are_mixed_by_mixnns_weights() -> None:
    noisy = torch.rand(50, generator=torch.Generator().manual_seed(0)).clamp(1e-4, 1 - 1e-4)
    partner = torch.arange(50).roll(7)
    expected = posterior_weights(torch.stack([1 - noisy, 1 - noisy[partner]], dim=1).log(), torch.ones(50, 1).bool())
    torch.testing.assert_close(mixing_weights(noisy, noisy[partner]), expected[:, 0])
    images = torch.rand(50, 2, 3, 3)
    found = mixed(images, partner, expected[:, 0])
    torch.testing.assert_close(found[4], expected[4, 0] * images[4] + expected[4, 1] * images[47])


def test_the_temperature_falls_over_88_epochs() -> None:
    method = MCorrectionMixing(toy(epochs=300).task)
    temperatures = []
    for epoch in (110, 154, 198, 299):
        method.begin_epoch(epoch)
        temperatures.append(method.temperature)
    assert temperatures == pytest.approx([1, 0.5005, 0.001, 0.001])


def test_predictions_before_mixing_are_hard_or_soft() -> None:
    made = toy(epochs=300)
    inputs = torch.stack([made.task.train[row][0] for row in range(8)])
    hard, soft = MCorrection(made.task), MCorrectionMixing(made.task)
    logits = hard.learner(inputs).detach()
    soft.begin_epoch(154)
    assert hard.own_predictions(inputs).sum(dim=1).tolist() == [1] * 8
    assert torch.equal(hard.own_predictions(inputs).argmax(dim=1), logits.argmax(dim=1))
    torch.testing.assert_close(soft.own_predictions(inputs), (logits / 0.5005).softmax(dim=1))


def test_noise_probability_is_that_of_the_present_loss() -> None:
    made = toy()
    method = MCorrection(made.task)
    method.noisy_by_bin.copy_(torch.linspace(0, 1, 100))
    method.loss_range.copy_(torch.tensor([1.0, 2.0]))
    batch = Batch(torch.stack([made.task.train[row][0] for row in range(40)]), made.given[:40], torch.arange(40))
    log_p = method.learner(batch.inputs).log_softmax(dim=1).detach().numpy()
    losses = -log_p[np.arange(40), made.given[:40].numpy()]
    assert losses.min() < 1.2
    assert losses.max() > 1.5
    expected = np.clip((100 * np.clip(losses - 1, 1e-3, 1 - 1e-3)).astype(int) / 99, 1e-4, 1 - 1e-4)
    np.testing.assert_allclose(method.noise_probability(batch).numpy(), expected, atol=0.0102)  # one bin
    assert method.learner.training


@pytest.mark.parametrize("kind", [MCorrection, MCorrectionMixing])
def test_finds_wrong_labels_and_memorizes_fewer(kind: type[MCorrection], made: Toy) -> None:
    method = kind(made.task)
    train(method, epochs=method.start - 1)
    assert torch.unique(method.clean_score()).tolist() == [0.5]  # no scan before it is needed
    train(method, first=method.start - 1, epochs=method.start)
    assert len(torch.unique(method.clean_score())) > 10
    train(method, first=method.start)
    log_p = made.task.scan(method.learner).logits.log_softmax(dim=1).numpy()
    losses = -log_p[np.arange(len(log_p)), made.given.numpy()]
    np.testing.assert_allclose(method.loss_range, np.percentile(losses, [5, 95]), rtol=1e-3, atol=1e-5)
    assert auroc(method, made) > 0.95
    assert (method.corrected_labels() == made.true).float().mean() > (~made.is_noisy).float().mean() + 0.15
    assert accuracy(method, made) > plain_accuracy(0.4, 20) + 0.1


def test_goes_on_in_every_phase() -> None:
    for stop in (2, 5, 7):
        assert_goes_on(lambda: MCorrectionMixing(toy(epochs=9, num_samples=80).task, correction_start=170), stop)
