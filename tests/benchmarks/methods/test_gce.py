"""Generalized cross-entropy: the loss, its limits, when samples are pruned, and which."""

import numpy as np
import pytest
import torch
from noisy_toys import long_toy, memorized_by_cross_entropy
from toy_measures import memorized, random_batch
from toy_task import Toy, auroc, toy, train

from benchmarks.harness.task import Scan
from benchmarks.methods.gce import GeneralizedCrossEntropy, Truncated


def label_probabilities(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Compute p_y with NumPy."""
    powers = np.exp(logits.double().numpy())
    return np.array([row[label] / row.sum() for row, label in zip(powers, labels.numpy(), strict=True)])


@pytest.fixture(scope="module")
def made() -> Toy:
    """Return a task at half of noise."""
    return long_toy()


@pytest.fixture(scope="module")
def trained(made: Toy) -> Truncated:
    """Train the truncated form."""
    method = Truncated(made.task)
    train(method)
    return method


def test_loss_is_that_of_the_paper() -> None:
    logits, batch = random_batch()
    expected = np.mean((1 - label_probabilities(logits, batch.labels) ** 0.7) / 0.7)
    assert GeneralizedCrossEntropy(toy().task).loss(logits, batch).item() == pytest.approx(expected, rel=1e-5)


def test_ends_are_cross_entropy_and_absolute_error() -> None:
    logits, batch = random_batch()
    probabilities = label_probabilities(logits, batch.labels)
    nearly_zero = GeneralizedCrossEntropy(toy().task, q=1e-3).loss(logits, batch).item()
    assert nearly_zero == pytest.approx(-np.log(probabilities).mean(), rel=0.01)
    one = GeneralizedCrossEntropy(toy().task, q=1.0).loss(logits, batch).item()
    assert one == pytest.approx((1 - probabilities).mean(), rel=1e-5)


def test_gradient_is_finite_where_the_label_is_impossible() -> None:
    _, batch = random_batch(1)
    logits = torch.full((1, 4), 500.0)
    logits[0, batch.labels] = -500.0
    logits.requires_grad_()
    torch.autograd.backward(GeneralizedCrossEntropy(toy().task).loss(logits, batch))
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_truncated_loss_leaves_out_dropped_samples() -> None:
    logits, batch = random_batch(4)
    method = Truncated(toy().task)
    method.judged[:4] = torch.tensor([0.9, 0.5, 0.51, 0.1])
    losses = (1 - label_probabilities(logits, batch.labels) ** 0.7) / 0.7 - (1 - 0.5**0.7) / 0.7
    assert method.loss(logits, batch).item() == pytest.approx((losses[0] + losses[2]) / 4, rel=1e-5)


def test_nothing_is_dropped_before_the_first_pruning() -> None:
    logits, batch = random_batch()
    task = toy().task
    difference = GeneralizedCrossEntropy(task).loss(logits, batch) - Truncated(task).loss(logits, batch)
    assert difference.item() == pytest.approx((1 - 0.5**0.7) / 0.7, rel=1e-5)
    assert Truncated(task).clean_score() is None


@pytest.mark.parametrize(
    ("num_classes", "epochs", "expected"),
    [
        (10, 120, list(range(39, 120, 10))),
        (10, 24, list(range(7, 24, 2))),
        (100, 150, list(range(79, 150, 10))),
        (100, 30, list(range(15, 30, 2))),
    ],
)
def test_prunes_in_the_published_epochs(
    num_classes: int, epochs: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = toy(epochs=epochs, num_samples=8).task
    task.num_classes = num_classes
    method, pruned, now = Truncated(task), list[int](), 0

    def scan(_: object) -> Scan:
        pruned.append(now)
        return Scan(torch.zeros(8, 4), torch.zeros(8, 1))

    monkeypatch.setattr(task, "scan", scan)
    for now in range(epochs):
        method.begin_epoch(now)
    assert pruned == expected


def test_kept_samples_are_cleaner(made: Toy, trained: Truncated) -> None:
    noise = made.is_noisy.double()
    assert auroc(trained, made) > 0.9
    assert 0.2 < trained.kept.double().mean().item() < 0.8
    assert noise[trained.kept].mean() < noise.mean() / 2


def test_both_forms_memorize_less_than_cross_entropy(made: Toy, trained: Truncated) -> None:
    plain = train(GeneralizedCrossEntropy(long_toy().task))
    limit = memorized_by_cross_entropy(long_toy) - 0.1
    assert memorized(plain, made) < limit
    assert memorized(trained, made) < limit
