"""MixNN as released: each thing that is not as the paper says."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from toy_measures import assert_goes_on, plain_accuracy
from toy_task import Toy, accuracy, toy, train

from benchmarks.harness.batches import Batch
from benchmarks.methods.mixnn_released import MixNNReleased, clean_probability


@pytest.fixture
def made() -> Toy:
    return toy(epochs=300, warmup_epochs=10)  # as published, but E_s is 150


def first_batch(made: Toy, size: int = 40) -> Batch:
    inputs = torch.stack([made.task.train[row][0] for row in range(size)])
    return Batch(inputs, made.given[:size], torch.arange(size))


def loss_of_step(method: MixNNReleased, batch: Batch) -> tuple[float, Tensor]:
    """The loss of a step that is not taken, and the logits that it is of."""
    losses: list[Tensor] = []
    logits: list[Tensor] = []
    handle = method.learner.register_forward_hook(lambda *passed: logits.append(passed[2].detach()))
    method.learner.step = losses.append  # type: ignore[assignment, method-assign]  # to see the losses
    method.step(batch)
    handle.remove()
    return losses[0].item(), logits[-1]


def test_warm_up_is_a_plain_epoch_less_and_in_order(made: Toy) -> None:
    method = MixNNReleased(made.task)
    for epoch, in_order in ((0, True), (8, True), (9, False)):
        method.begin_epoch(epoch)
        seen = torch.cat([batch.indices for batch in method.batches()])
        assert torch.equal(seen, torch.arange(400)) == in_order
    method.epoch = 0
    batch = first_batch(made)
    loss, logits = loss_of_step(method, batch)
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(logits, batch.labels).item())


def test_loss_before_the_correction_has_no_logarithm(made: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    method = MixNNReleased(made.task)
    batch, partner = first_batch(made), torch.arange(40).roll(3)
    weights = torch.linspace(0, 1, 40)
    monkeypatch.setattr(method, "pair", lambda *_: (partner, weights))
    for number in (10, 149):
        method.epoch = number - 1
        loss, logits = loss_of_step(method, batch)
        p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=1, keepdims=True)
        labels = batch.labels.tolist()
        expected = np.mean(
            [
                -float(weights[i]) * p[i, labels[i]] - (1 - float(weights[i])) * p[i, labels[(i - 3) % 40]]
                for i in range(40)
            ]
        )
        assert loss == pytest.approx(expected, rel=1e-5)


def test_loss_from_the_correction_on_is_the_cross_entropy_with_soft_targets(
    made: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = MixNNReleased(made.task)
    batch, partner, weights = first_batch(made), torch.arange(40).roll(3), torch.linspace(0, 1, 40)
    monkeypatch.setattr(method, "pair", lambda *_: (partner, weights))
    own = method.learner(batch.inputs).detach().softmax(dim=1).numpy()
    given = np.eye(4)[made.given[:40].numpy()]
    for number, targets in ((151, given), (150, 0.9 * given + 0.1 * own)):
        method.epoch = number - 1
        loss, logits = loss_of_step(method, batch)
        log_p = logits.numpy() - np.log(np.exp(logits.numpy()).sum(axis=1, keepdims=True))
        w = weights.numpy()[:, None]
        expected = -np.mean(((w * targets + (1 - w) * np.roll(targets, 3, axis=0)) * log_p).sum(axis=1))
        assert loss == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(method.soft_targets[:40].numpy(), targets, atol=1e-6)


def test_targets_move_every_tenth_epoch(made: Toy) -> None:
    method = MixNNReleased(made.task)
    moves = []
    for number in range(1, 301):
        method.epoch = number - 1
        if method.updates_targets:
            moves.append(number)
    assert moves == list(range(150, 301, 10))


def test_the_partner_is_at_first_random_and_then_the_nearest_in_the_batch(made: Toy) -> None:
    method = MixNNReleased(made.task)
    batch = first_batch(made)
    features = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    method.clean_probability.copy_(torch.linspace(0, 1, 400))
    distances = np.linalg.norm(features.numpy()[:, None] - features.numpy()[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(axis=1)
    method.epoch = 149
    torch.manual_seed(0)
    partner, weights = method.pair(batch, features)
    assert sorted(partner.tolist()) == list(range(40))
    assert partner.tolist() != nearest.tolist()
    assert len(torch.unique(weights)) == 1
    method.epoch = 150
    partner, weights = method.pair(batch, features)
    assert partner.tolist() == nearest.tolist()
    clean = np.linspace(0, 1, 400)[:40]
    np.testing.assert_allclose(weights.numpy(), (clean + 1e-10) / (clean + clean[nearest] + 1e-10), rtol=1e-4)


def test_losses_are_against_the_corrected_label_and_scaled(made: Toy) -> None:
    method = MixNNReleased(made.task)
    method.soft_targets.copy_(made.task.one_hot(made.true))
    logits = made.task.scan(method.learner).logits.numpy()
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    losses = -log_p[np.arange(400), made.true.numpy()]
    method.begin_epoch(9)
    np.testing.assert_allclose(method.losses[0].numpy(), (losses - losses.min()) / np.ptp(losses), atol=1e-5)


def test_losses_of_five_epochs_are_averaged_under_heavy_noise() -> None:
    light, heavy = (MixNNReleased(toy(rate=rate, epochs=30, warmup_epochs=1).task) for rate in (0.6, 0.8))
    assert (len(light.losses), len(heavy.losses)) == (1, 5)
    torch.manual_seed(0)
    for epoch in range(7):
        heavy.learner.network.head.weight.data.normal_()
        np.random.seed(0)
        heavy.begin_epoch(epoch)
    np.random.seed(0)
    torch.testing.assert_close(heavy.clean_probability, clean_probability(heavy.losses.mean(dim=0)))
    assert len(torch.unique(heavy.losses, dim=0)) == 5


def test_the_mixture_tells_small_losses_from_large_ones() -> None:
    rng = np.random.default_rng(0)
    is_large = rng.random(1000) < 0.3
    losses = np.where(is_large, rng.normal(0.8, 0.05, 1000), rng.normal(0.1, 0.05, 1000))
    np.random.seed(0)
    probability = clean_probability(torch.from_numpy(losses).float())
    assert roc_auc_score(is_large, -probability) > 0.99
    assert probability[~torch.from_numpy(is_large)].min() > 0.9


def test_memorizes_less_than_plain_training() -> None:
    made = toy(rate=0.4, epochs=20)
    method = MixNNReleased(made.task)
    train(method)
    assert accuracy(method, made) > plain_accuracy(0.4, 20) + 0.1
    assert (method.corrected_labels() == made.true).float().mean() > (~made.is_noisy).float().mean() + 0.08


def test_goes_on_in_every_phase() -> None:
    for stop in (1, 4):
        assert_goes_on(lambda: MixNNReleased(toy(epochs=6, num_samples=80, warmup_epochs=3, rate=0.8).task), stop)
