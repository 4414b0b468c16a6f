"""PENCIL: how labels move, in which stage, and what comes of it."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from toy_measures import assert_goes_on, plain_accuracy
from toy_task import Toy, accuracy, auroc, toy, train

from benchmarks.harness.batches import Batch
from benchmarks.methods.pencil import Pencil, label_gradient

Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def made() -> Toy:
    return toy(rate=0.4, epochs=32)


@pytest.fixture(scope="module")
def trained(made: Toy) -> Pencil:
    method = Pencil(made.task)
    train(method)
    return method


def softmax(values: Array) -> Array:
    exponentials: Array = np.exp(values - values.max())
    total: float = exponentials.sum()
    return exponentials / total


def slope(function: Callable[[Array], float], at: Array) -> Array:
    steps = 1e-5 * np.eye(len(at))
    return np.array([(function(at + step) - function(at - step)) / 2e-5 for step in steps])


def test_labels_move_down_the_gradient_of_the_released_codes_loss() -> None:
    rng = np.random.default_rng(0)
    logits, p, labels = rng.normal(size=(5, 4)), rng.dirichlet(np.ones(4), size=5), [0, 3, 1, 1, 2]
    found = label_gradient(torch.from_numpy(logits), torch.from_numpy(p), torch.eye(4)[labels].double(), 0.4)
    for row in range(5):

        def loss(v: Array, row: int = row) -> float:
            d = softmax(v)
            divergence = sum(p[row] * np.log(p[row] / d))
            return float(divergence / 4 - 0.4 * np.log(softmax(d)[labels[row]]))

        np.testing.assert_allclose(found[row].numpy(), slope(loss, logits[row]), atol=1e-8)


def test_losses_of_the_network() -> None:
    made = toy(epochs=32)  # a tenth of the published 320: the stages end at 7 and 20
    method = Pencil(made.task)
    rng = np.random.default_rng(0)
    logits, label_logits = rng.normal(size=(2, 5, 4)).astype(np.float32)
    p = np.array([softmax(row) for row in logits])
    d = np.array([softmax(row) for row in label_logits])
    divergence = np.mean(np.sum(p * np.log(p / d), axis=1)) / 4
    entropy = -np.mean(np.sum(p * np.log(p), axis=1)) / 4
    labels = made.given[:5]
    cross_entropy = -np.mean([np.log(row[label]) for row, label in zip(p, labels.tolist(), strict=True)])
    for epoch, expected in (
        (6, cross_entropy),
        (7, divergence + 0.1 * entropy),
        (19, divergence + 0.1 * entropy),
        (20, divergence),
    ):
        method.begin_epoch(epoch)
        method.label_logits[:5] = torch.from_numpy(label_logits)
        batch = Batch(made.task.train[0][0], labels, torch.arange(5))
        assert method.loss(torch.from_numpy(logits), batch).item() == pytest.approx(expected, rel=1e-5)
        moved = not np.allclose(method.label_logits[:5].numpy(), label_logits, atol=1e-5)
        assert moved == (7 <= epoch < 20)


def test_learning_rates_of_the_stages() -> None:
    method = Pencil(toy(epochs=32).task)
    rates = []
    for epoch in range(32):
        method.begin_epoch(epoch)
        rates.append(method.learner.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx(20 * [0.06] + 4 * [0.2] + 4 * [0.02] + 4 * [0.002])


def test_samples_of_a_small_batch_move_no_further() -> None:
    made = toy(epochs=32)
    method = Pencil(made.task)
    method.begin_epoch(10)
    logits, labels = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), made.given[:40]
    inputs = torch.stack([made.task.train[row][0] for row in range(40)])
    method.loss(logits, Batch(inputs, labels, torch.arange(40)))
    together = method.label_logits[:3].clone()
    method.label_logits[:40] = 10 * made.task.one_hot(labels)
    method.loss(logits[:3], Batch(inputs[:3], labels[:3], torch.arange(3)))
    torch.testing.assert_close(method.label_logits[:3], together)


def test_labels_can_go_as_far_in_a_short_training() -> None:
    moves = []
    for epochs in (32, 320):
        made = toy(epochs=epochs)
        method = Pencil(made.task)
        method.begin_epoch(epochs // 2)
        before = method.label_logits[:1].clone()
        method.loss(torch.tensor([[2.0, 1.0, 0.0, -1.0]]), Batch(torch.zeros(1, 10), made.given[:1], torch.tensor([0])))
        moves.append((method.label_logits[:1] - before) * epochs)
    assert moves[0].abs().max() > 1
    torch.testing.assert_close(moves[0], moves[1], rtol=1e-3, atol=1e-3)


def test_finds_and_mends_wrong_labels(made: Toy, trained: Pencil) -> None:
    assert auroc(trained, made) > 0.93
    assert (trained.corrected_labels() == made.true).float().mean() > 0.85
    assert accuracy(trained, made) > plain_accuracy(0.4, 32) + 0.15


def test_goes_on_in_every_stage() -> None:
    for stop in (1, 3, 5):
        assert_goes_on(lambda: Pencil(toy(epochs=6, num_samples=80).task), stop)
