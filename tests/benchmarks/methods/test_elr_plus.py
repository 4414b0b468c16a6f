"""ELR+."""

import math

import numpy as np
import pytest
import torch
from noisy_toys import assert_memorizes_less, assert_mends, trained
from toy_measures import softmax
from toy_task import Toy, toy

from benchmarks.harness.protocol import Method
from benchmarks.methods.elr_plus import ELRPlus, elr_loss, refined


@pytest.fixture(scope="module")
def run() -> tuple[Toy, Method]:
    return trained(ELRPlus)


def test_loss(generator: torch.Generator) -> None:
    logits = 4 * torch.randn(9, 4, generator=generator)
    logits[0] = torch.tensor([40.0, 0, 0, 0])  # the clip decides
    labels, targets = (torch.randn(9, 4, generator=generator).softmax(dim=1) for _ in range(2))
    targets[0] = torch.tensor([1.0, 0, 0, 0])
    p = softmax(logits.double().numpy())
    cross_entropy = -(labels.numpy() * np.log(p)).sum(axis=1).mean()
    inner = (targets.numpy() * np.clip(p, 1e-4, 1 - 1e-4)).sum(axis=1)
    expected = cross_entropy + 3 * np.log(1 - inner).mean()
    assert elr_loss(logits, labels, targets, 3.0).item() == pytest.approx(expected, rel=1e-3)


def test_refined_labels(generator: torch.Generator) -> None:
    labels, targets = (torch.randn(9, 4, generator=generator).softmax(dim=1) for _ in range(2))
    product = labels.numpy() * targets.numpy()
    expected = product / product.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(refined(labels, targets).numpy(), expected, rtol=1e-5)
    assert refined(torch.eye(4)[:1], torch.tensor([[0.0, 1, 0, 0]])).isfinite().all()


@pytest.mark.parametrize("member", [0, 1])
def test_targets_are_by_the_other_networks_average(member: int) -> None:
    method = ELRPlus(toy().task)
    batches = [next(batch for of, batch in method.batches() if of == member) for _ in range(2)]
    expected = np.zeros((400, 4))
    for batch in batches:
        predicted = softmax(method.averages[1 - member](batch.inputs).detach().numpy())
        rows = batch.indices.numpy()
        expected[rows] = 0.7 * expected[rows] + 0.3 * predicted
        found = method.update_targets(member, batch)
        np.testing.assert_allclose(found.numpy(), expected[rows], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(method.targets[member].numpy(), expected, rtol=1e-4, atol=1e-7)
    assert not method.targets[1 - member].any()


def test_average_follows_its_network() -> None:
    method = ELRPlus(toy(epochs=200).task)
    before = [average.network.head.weight.detach().numpy().copy() for average in method.averages]
    method.step(next(iter(method.batches())))
    decay = 0.997 * math.exp(-5 * (1 - 1 / (102 * 10)) ** 2)  # after the first of 10 steps in each of 102 epochs
    expected = decay * before[0] + (1 - decay) * method.first.network.head.weight.detach().numpy()
    np.testing.assert_allclose(method.first_average.network.head.weight.detach().numpy(), expected, rtol=1e-5)
    np.testing.assert_array_equal(method.second_average.network.head.weight.detach().numpy(), before[1])


def test_networks_take_turns_and_count_steps_alike() -> None:
    method = ELRPlus(toy().task)
    method.begin_epoch(3)
    turns, counts = [], []
    for member, batch in method.batches():
        method.step((member, batch))
        turns.append(member)
        counts.append(method.steps)
    assert turns == [0] * 10 + [1] * 10
    assert counts == [*range(31, 41), *range(31, 41)]


def test_published_hyper_parameters() -> None:
    made = toy()
    few = ELRPlus(made.task)
    made.task.num_classes = 20
    many = ELRPlus(made.task)
    assert (few.beta, few.strength, few.refine_labels) == (0.7, 3, False)
    assert (many.beta, many.strength, many.refine_labels) == (0.9, 7, True)


def test_predicts_by_the_mean_of_logits(run: tuple[Toy, Method]) -> None:
    made, method = run
    assert isinstance(method, ELRPlus)
    with torch.no_grad():
        logits = [learner(made.test.inputs).numpy() for learner in method.learners]
        predicted = method.predict(made.test.inputs).numpy()
    np.testing.assert_allclose(predicted, softmax(np.mean(logits, axis=0)), rtol=1e-4, atol=1e-7)


def test_targets_mend_labels(run: tuple[Toy, Method]) -> None:
    made, method = run
    assert_mends(method, made)


def test_memorizes_less_than_plain_training(run: tuple[Toy, Method]) -> None:
    made, method = run
    assert_memorizes_less(method, made)
