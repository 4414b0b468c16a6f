"""Symmetric cross-entropy: the loss, its weights, and that less is memorized."""

import numpy as np
import pytest
from noisy_toys import long_toy, memorized_by_cross_entropy
from toy_measures import memorized, random_batch
from toy_task import toy, train

from benchmarks.methods.sce import SymmetricCrossEntropy


def by_hand(logits: np.ndarray, labels: np.ndarray, alpha: float, beta: float, log_zero: float) -> float:
    """Compute the loss from its definition, with the sum over classes."""
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        p = np.exp(row) / np.exp(row).sum()
        log_label = np.where(np.arange(len(row)) == label, 0, log_zero)
        total += alpha * -np.log(p[label]) + beta * -(p * log_label).sum()
    return total / len(labels)


@pytest.mark.parametrize(
    ("options", "expected"), [({}, (0.1, 1.0, np.log(1e-4))), ({"alpha": 2.0, "log_zero": -4.0}, (2.0, 1.0, -4.0))]
)
def test_loss_is_that_of_the_paper(options: dict[str, float], expected: tuple[float, float, float]) -> None:
    logits, batch = random_batch()
    found = SymmetricCrossEntropy(toy().task, **options).loss(logits, batch).item()
    assert found == pytest.approx(by_hand(logits.double().numpy(), batch.labels.numpy(), *expected), rel=1e-5)


def test_weights_for_many_classes() -> None:
    task = toy().task
    task.num_classes = 100
    method = SymmetricCrossEntropy(task)
    assert (method.alpha, method.beta) == (6.0, 0.1)


def test_memorizes_less_than_cross_entropy() -> None:
    made = long_toy()
    assert memorized(train(SymmetricCrossEntropy(made.task)), made) < memorized_by_cross_entropy(long_toy) - 0.1
