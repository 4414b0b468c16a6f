"""LRT: the test, the retroactive loss, when each starts, and what comes of it."""

import numpy as np
import pytest
import torch
from toy_measures import assert_goes_on, plain_accuracy
from toy_task import Toy, accuracy, auroc, toy, train

from benchmarks.methods.lrt import LRT, replace_rejected, retroactive_loss


@pytest.fixture(scope="module")
def made() -> Toy:
    return toy(rate=0.4, epochs=20)


def test_a_label_is_replaced_where_the_ratio_exceeds_the_threshold() -> None:
    rng = np.random.default_rng(0)
    q, labels = rng.dirichlet(np.ones(4), size=200), rng.integers(4, size=200)
    expected = labels.copy()
    for row in range(200):
        if q[row].argmax() != labels[row] and q[row].max() / q[row, labels[row]] > 2:
            expected[row] = q[row].argmax()
    assert 20 < (expected != labels).sum() < (q.argmax(axis=1) != labels).sum() - 10
    found = replace_rejected(torch.from_numpy(labels), torch.from_numpy(q), 2.0)
    assert found.tolist() == expected.tolist()


def test_the_retroactive_loss_is_what_the_matrices_say() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 4)), rng.integers(4, size=6)
    expected = 0.0
    for row in range(6):
        matrix = np.full((4, 4), 1e-4)
        matrix[labels[row]] = 0.9 - 1e-4 / 3
        smoothed = np.full(4, 0.01 / 3)
        smoothed[labels[row]] = 0.99
        log_p = logits[row] - np.log(np.exp(logits[row]).sum())
        expected -= (matrix @ smoothed) @ log_p / 6
    found = retroactive_loss(torch.from_numpy(logits), torch.from_numpy(labels), 0.9, 1e-4)
    assert found.item() == pytest.approx(expected)


def test_what_starts_when(made: Toy) -> None:
    made = toy(epochs=36)  # a fifth of the published 180: the loss from 5 on and anew at 13, the test after epoch 6
    method = LRT(made.task)
    retroactive, changed = [], []
    for epoch in range(14):
        labels = method.labels.clone()
        train(method, first=epoch, epochs=epoch + 1)
        retroactive.append(not torch.equal(method.retro_labels, made.given))
        changed.append(not torch.equal(method.labels, labels))
        if epoch == 12:
            torch.testing.assert_close(method.retro_labels, labels)  # before the test of this epoch
    assert not any(changed[:6])
    assert changed[6]
    assert retroactive == [False] * 12 + [True] * 2
    assert (method.start, method.second_start, method.window) == (5, 13, 2)


def test_the_start_goes_by_the_noise() -> None:
    assert LRT(toy(epochs=180, rate=0.4).task).start == 25
    assert LRT(toy(epochs=180, rate=0.8).task).start == 20


def test_finds_and_mends_wrong_labels(made: Toy) -> None:
    method = LRT(made.task)
    train(method)
    assert auroc(method, made) > 0.92
    assert (method.corrected_labels() == made.true).float().mean() > 0.85
    assert accuracy(method, made) > plain_accuracy(0.4, 20) + 0.1


def test_goes_on_after_every_start() -> None:
    for stop in (2, 4):
        assert_goes_on(lambda: LRT(toy(epochs=9, num_samples=80).task), stop)
