"""Active-passive losses: the losses, where no gradient flows, the bound of a step, and that less is memorized."""

import numpy as np
import pytest
import torch
from noisy_toys import long_toy, memorized_by_cross_entropy
from toy_measures import memorized, random_batch
from toy_task import toy, train

from benchmarks.methods.apl import nce_rce, nfl_mae, normalized_cross_entropy, normalized_focal


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Compute the softmax."""
    powers = np.exp(logits)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def normalized_by_hand(logits: np.ndarray, label: int, weights: np.ndarray) -> float:
    """Compute one sample's normalized loss with given weights of the classes' logarithms."""
    terms = -weights * np.log(probabilities(logits[None])[0])
    return float(terms[label] / terms.sum())


@pytest.mark.parametrize("many", [False, True])
def test_losses_are_those_of_the_paper(many: bool) -> None:
    logits, batch = random_batch()
    task = toy().task
    task.num_classes = 100 if many else 4
    alpha, reverse_weight = (10.0, 0.1) if many else (1.0, 1.0)
    p = probabilities(logits.double().numpy())
    expected_nfl_mae, expected_nce_rce = [], []
    for row, sample, label in zip(p, logits.double().numpy(), batch.labels.tolist(), strict=True):
        focal = normalized_by_hand(sample, label, (1 - row) ** 0.5)
        cross_entropy = normalized_by_hand(sample, label, np.ones(4))
        absolute = np.abs(row - np.eye(4)[label]).sum() / 2
        reverse = -(row * np.log(np.clip(np.eye(4)[label], 1e-4, 1))).sum()
        expected_nfl_mae.append(alpha * focal + absolute)
        expected_nce_rce.append(alpha * cross_entropy + reverse_weight * reverse)
    assert nfl_mae(task).loss(logits, batch).item() == pytest.approx(np.mean(expected_nfl_mae), rel=1e-5)
    assert nce_rce(task).loss(logits, batch).item() == pytest.approx(np.mean(expected_nce_rce), rel=1e-5)


def test_no_gradient_flows_through_the_focal_weights() -> None:
    logits, batch = random_batch(1)
    logits = logits.double().requires_grad_()
    torch.autograd.backward(normalized_focal(logits, batch.labels).sum())
    assert logits.grad is not None
    values, label = logits.detach().numpy()[0], int(batch.labels)
    weights = (1 - probabilities(values[None])[0]) ** 0.5
    for entry in range(4):
        step = 1e-6 * np.eye(4)[entry]
        there, back = (normalized_by_hand(values + sign * step, label, weights) for sign in (1, -1))
        assert logits.grad[0, entry].item() == pytest.approx((there - back) / 2e-6, abs=1e-6)


def test_normalized_loss_sums_to_one_over_labels() -> None:
    logits, _ = random_batch(1)
    by_label = normalized_cross_entropy(logits.expand(4, 4), torch.arange(4))
    assert by_label.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("make", [nfl_mae, nce_rce])
def test_step_is_bounded(make: type) -> None:
    task = toy(lr=0.1).task
    method = make(task, alpha=1e5)
    before = torch.nn.utils.parameters_to_vector(method.learner.network.parameters()).detach()
    _, batch = random_batch()
    method.step(batch)
    moved = torch.nn.utils.parameters_to_vector(method.learner.network.parameters()).detach() - before
    assert moved.norm().item() == pytest.approx(0.1 * 5, rel=0.05)


@pytest.mark.parametrize("make", [nfl_mae, nce_rce])
def test_memorizes_less_than_cross_entropy(make: type) -> None:
    made = long_toy()
    assert memorized(train(make(made.task)), made) < memorized_by_cross_entropy(long_toy) - 0.1
