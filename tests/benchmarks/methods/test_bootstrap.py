"""Bootstrapping: the loss, its gradient, and that less is memorized."""

import numpy as np
import pytest
import torch
from noisy_toys import long_toy, memorized_by_cross_entropy
from toy_measures import memorized, random_batch
from toy_task import toy, train

from benchmarks.methods.bootstrap import hard, soft


def by_hand(logits: np.ndarray, labels: np.ndarray, label_weight: float, *, is_hard: bool) -> float:
    """Compute the loss with a sample after another."""
    losses = []
    for row, label in zip(logits, labels, strict=True):
        p = np.exp(row) / np.exp(row).sum()
        own = np.eye(len(row))[p.argmax()] if is_hard else p
        target = label_weight * np.eye(len(row))[label] + (1 - label_weight) * own
        losses.append(-sum(target[c] * np.log(p[c]) for c in range(len(row))))
    return float(np.mean(losses))


@pytest.mark.parametrize(("is_hard", "published"), [(False, 0.95), (True, 0.8)])
def test_loss_is_that_of_the_paper(is_hard: bool, published: float) -> None:
    logits, batch = random_batch()
    method = (hard if is_hard else soft)(toy().task)
    expected = by_hand(logits.double().numpy(), batch.labels.numpy(), published, is_hard=is_hard)
    assert method.loss(logits, batch).item() == pytest.approx(expected, rel=1e-5)


def test_gradient_of_the_soft_form_flows_through_the_target() -> None:
    logits, batch = random_batch()
    logits = logits.double().requires_grad_()
    torch.autograd.backward(soft(toy().task, label_weight=0.5).loss(logits, batch))
    assert logits.grad is not None
    step = np.zeros(logits.shape)
    step[2, 1] = 1e-6
    there, back = (
        by_hand(logits.detach().numpy() + sign * step, batch.labels.numpy(), 0.5, is_hard=False) for sign in (1, -1)
    )
    assert logits.grad[2, 1].item() == pytest.approx((there - back) / 2e-6, rel=1e-4)


def test_the_less_the_label_weighs_the_less_is_memorized() -> None:
    made = long_toy()
    assert memorized(train(hard(made.task, label_weight=0.4)), made) < memorized_by_cross_entropy(long_toy) - 0.1


def test_label_alone_is_cross_entropy() -> None:
    logits, batch = random_batch()
    expected = torch.nn.functional.cross_entropy(logits, batch.labels)
    for make in (soft, hard):
        torch.testing.assert_close(make(toy().task, label_weight=1.0).loss(logits, batch), expected)
