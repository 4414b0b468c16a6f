"""SEAL: what the targets of a round are, where it starts, and that rounds help."""

import numpy as np
import pytest
import torch
from toy_measures import assert_goes_on, plain_accuracy
from toy_task import accuracy, auroc, toy, train

from benchmarks.harness.batches import Batch
from benchmarks.methods.seal import SEAL


def test_targets_are_the_mean_of_all_predictions_of_the_round_before() -> None:
    made = toy(epochs=3)
    method = SEAL(made.task)
    seen = []
    for epoch in range(6):
        train(method, first=epoch, epochs=epoch + 1)
        seen.append(made.task.scan(method.learner).logits.softmax(dim=1).numpy())
        if epoch in (2, 5):
            np.testing.assert_allclose(method.targets.numpy(), np.mean(seen[-3:], axis=0), atol=1e-6)


def test_the_loss_is_the_cross_entropy_with_them() -> None:
    made = toy()
    method = SEAL(made.task)
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(5, 4)), rng.dirichlet(np.ones(4), size=len(made.given))
    method.targets.copy_(torch.from_numpy(targets))
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    indices = [7, 3, 0, 100, 5]
    found = method.loss(
        torch.from_numpy(logits).float(), Batch(torch.zeros(5, 10), made.given[:5], torch.tensor(indices))
    )
    assert found.item() == pytest.approx(-np.mean((targets[indices] * log_p).sum(axis=1)), rel=1e-5)


def test_every_round_starts_from_the_initial_weights() -> None:
    made = toy(epochs=2, num_samples=80)
    method = SEAL(made.task)
    train(method, epochs=2)
    method.begin_epoch(2)
    initial = dict(made.task.network().state_dict())
    torch.testing.assert_close(dict(method.learner.network.state_dict()), initial, rtol=0, atol=0)
    assert method.num_epochs == 8
    assert method.learner.optimizer.param_groups[0]["lr"] == made.task.recipe.lr


def test_rounds_mend_labels() -> None:
    made = toy(rate=0.4, epochs=20)
    method = SEAL(made.task, rounds=1)
    train(method)
    assert auroc(method, made) > 0.9
    assert (method.corrected_labels() == made.true).float().mean() > 0.78
    assert accuracy(method, made) > plain_accuracy(0.4, 20) + 0.05


def test_goes_on_in_the_middle_of_a_round() -> None:
    assert_goes_on(lambda: SEAL(toy(epochs=3, num_samples=80).task), stop=7)
