"""Early-learning regularization: targets and loss, and what they do under noise."""

import numpy as np
import pytest
import torch
from noisy_toys import long_toy, memorized_by_cross_entropy
from toy_measures import memorized, random_batch
from toy_task import Toy, auroc, toy, train

from benchmarks.methods.elr import EarlyLearningRegularization


@pytest.fixture(scope="module")
def made() -> Toy:
    """Return a task at half of noise."""
    return long_toy()


@pytest.fixture(scope="module")
def trained(made: Toy) -> EarlyLearningRegularization:
    """Train."""
    method = EarlyLearningRegularization(made.task)
    train(method)
    return method


def clipped(logits: np.ndarray) -> np.ndarray:
    """Compute the softmax, cut off."""
    powers = np.exp(logits)
    return np.asarray(np.clip(powers / powers.sum(axis=1, keepdims=True), 1e-4, 1 - 1e-4))


def test_loss_and_targets_are_those_of_the_paper() -> None:
    logits, batch = random_batch()
    logits[0] *= 20
    method = EarlyLearningRegularization(toy().task)
    targets, labels = np.zeros((6, 4)), batch.labels.numpy()
    for seen in (logits, logits.flip(dims=(1,))):
        found = method.loss(seen, batch).item()
        values = seen.double().numpy()
        p = clipped(values)
        targets = 0.7 * targets + 0.3 * p / p.sum(axis=1, keepdims=True)
        logs = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
        expected = np.mean([-logs[i, labels[i]] + 3 * np.log(1 - targets[i] @ p[i]) for i in range(6)])
        assert found == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(method.targets[:6], targets, rtol=1e-4, atol=1e-7)
    assert not method.targets[6:].any()


def test_no_gradient_flows_through_targets() -> None:
    logits, batch = random_batch()
    labels = batch.labels.numpy()
    method = EarlyLearningRegularization(toy().task)
    values = logits.double().numpy()
    targets = 0.3 * clipped(values)

    def loss(values: np.ndarray) -> float:
        logs = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
        p = np.exp(logs)
        return float(np.mean([-logs[i, labels[i]] + 3 * np.log(1 - targets[i] @ p[i]) for i in range(6)]))

    logits.requires_grad_()
    torch.autograd.backward(method.loss(logits, batch))
    assert logits.grad is not None
    for entry in np.ndindex(6, 4):
        step = np.zeros((6, 4))
        step[entry] = 1e-6
        expected = (loss(values + step) - loss(values - step)) / 2e-6
        assert logits.grad[entry].item() == pytest.approx(expected, abs=1e-4)


def test_numbers_for_many_classes() -> None:
    task = toy().task
    task.num_classes = 100
    method = EarlyLearningRegularization(task)
    assert (method.momentum, method.weight) == (0.9, 7.0)


def test_memorizes_less_than_cross_entropy(made: Toy, trained: EarlyLearningRegularization) -> None:
    assert memorized(trained, made) < memorized_by_cross_entropy(long_toy) - 0.15


def test_targets_tell_wrong_labels_and_mend_them(made: Toy, trained: EarlyLearningRegularization) -> None:
    assert auroc(trained, made) > 0.85
    right = (trained.corrected_labels() == made.true).double().mean()
    assert right > (~made.is_noisy).double().mean() + 0.2
