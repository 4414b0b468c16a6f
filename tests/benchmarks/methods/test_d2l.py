"""D2L: the dimension, the turning point, what is trusted after it, and what comes of it."""

import math

import numpy as np
import pytest
import torch
from toy_measures import assert_goes_on, plain_accuracy
from toy_task import Toy, accuracy, toy, train

from benchmarks.harness.batches import Batch
from benchmarks.methods.d2l import D2L, has_turned, local_dimensions


@pytest.fixture(scope="module")
def made() -> Toy:
    return toy(rate=0.4, epochs=20)


@pytest.fixture(scope="module")
def trained(made: Toy) -> D2L:
    method = D2L(made.task, start=3)
    train(method)
    return method


def test_dimension_is_the_papers_estimate() -> None:
    points = np.random.default_rng(0).normal(size=(30, 5))
    expected = []
    for row in range(30):
        distances = np.sort(np.linalg.norm(np.delete(points, row, axis=0) - points[row], axis=1))[:20]
        expected.append(-20 / np.log(distances / distances[-1]).sum())
    np.testing.assert_allclose(local_dimensions(torch.from_numpy(points), 20).numpy(), expected, rtol=1e-5)


def test_dimension_of_points_on_a_plane_is_two() -> None:
    rng = np.random.default_rng(0)
    plane = rng.uniform(size=(1000, 2)) @ np.linalg.qr(rng.normal(size=(10, 10)))[0][:2]
    assert local_dimensions(torch.from_numpy(plane), 20).mean().item() == pytest.approx(2, abs=0.4)


def test_dimension_of_equal_points_is_no_number_that_spoils_a_run() -> None:
    method = D2L(toy().task)
    for parameter in method.learner.network.parameters():
        parameter.data.zero_()
    method.begin_epoch(0)
    assert method.lids[0].isfinite()


def test_turning_point() -> None:
    before = [4.0, 4.2, 4.1, 3.9, 3.8]  # mean 4, standard deviation 0.1414
    assert has_turned([9.0, *before, 4.29], 5)
    assert not has_turned([9.0, *before, 4.27], 5)


def test_loss_before_and_after() -> None:
    made = toy()
    method = D2L(made.task)
    logits = np.random.default_rng(0).normal(size=(5, 4))
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    labels = [int(label) for label in made.given[:5]]
    batch = Batch(torch.zeros(5, 10), made.given[:5], torch.arange(5))
    own = [log_p[row, labels[row]] for row in range(5)]
    best = log_p.max(axis=1)
    for alpha in (1.0, 0.7):
        method.alpha = alpha
        expected = -np.mean([alpha * a + (1 - alpha) * b for a, b in zip(own, best, strict=True)])
        assert method.loss(torch.from_numpy(logits), batch).item() == pytest.approx(expected, rel=1e-5)


def test_dimension_falls_and_then_grows_with_noise(trained: D2L) -> None:
    lids = trained.lids.tolist()
    lowest = int(np.argmin(lids))
    assert 0 < lowest < 8
    assert lids[0] > 1.2 * min(lids)
    assert lids[int(trained.turning_epoch) - 1] > 1.1 * min(lids)


def test_turns_and_trusts_the_labels_less_and_less(made: Toy, trained: D2L) -> None:
    turned = int(trained.turning_epoch)
    assert turned + 1 > 3 + 5
    lids = trained.lids.tolist()
    assert trained.alpha == pytest.approx(math.exp(-19 / 20 * lids[-1] / min(lids)))
    assert accuracy(trained, made) > plain_accuracy(0.4, 20) + 0.05


def test_weights_go_back_by_an_epoch(made: Toy, trained: D2L) -> None:
    turned = int(trained.turning_epoch)
    method = D2L(made.task, start=3)
    train(method, epochs=turned - 1)
    earlier = {name: value.clone() for name, value in method.learner.network.state_dict().items()}
    train(method, first=turned - 1, epochs=turned)
    later = {name: value.clone() for name, value in method.learner.network.state_dict().items()}
    assert not all(torch.equal(earlier[name], later[name]) for name in earlier)
    torch.manual_seed(0)
    method.lids[turned - 5 : turned] = 0.1  # so that it turns whatever batches are drawn
    method.begin_epoch(turned)
    torch.testing.assert_close(dict(method.learner.network.state_dict()), earlier, rtol=0, atol=0)


def test_goes_on_before_and_after_the_turn() -> None:
    def make() -> D2L:
        return D2L(toy(epochs=9, num_samples=160, rate=0.6).task, start=1, window=2)

    turned = int(train_and_return(make()).turning_epoch)
    assert 1 < turned < 8
    for stop in (turned - 1, turned + 1):
        assert_goes_on(make, stop)


def train_and_return(method: D2L) -> D2L:
    train(method)
    return method
