"""SELF."""

import copy

import numpy as np
import pytest
import torch
from noisy_toys import assert_memorizes_less, trained
from toy_measures import softmax
from toy_task import CPU, Toy, auroc, toy, train

from benchmarks.harness.metrics import probabilities_of
from benchmarks.harness.protocol import Method
from benchmarks.methods.self_ensemble import SelfEnsemble, filtered_loss


@pytest.fixture(scope="module")
def run() -> tuple[Toy, Method]:
    return trained(SelfEnsemble)


def test_loss(generator: torch.Generator) -> None:
    logits = torch.randn(4, 3, generator=generator)
    taught = torch.randn(4, 3, generator=generator).softmax(dim=1)
    is_kept, labels = torch.tensor([True, False, True, False]), torch.tensor([0, 1, 2, 0])
    p = softmax(logits.numpy())
    expected = -(np.log(p[0, 0]) + np.log(p[2, 2])) / 4 + 100 * ((p - taught.numpy()) ** 2).mean()
    assert filtered_loss(logits, labels, is_kept, taught, 100.0).item() == pytest.approx(expected, rel=1e-5)


def test_ensemble_is_the_running_mean_of_the_teachers_predictions() -> None:
    made = toy(epochs=6)
    method = SelfEnsemble(made.task)
    expected = np.zeros((400, 4))
    for epoch in range(3):
        train(method, first=epoch, epochs=epoch + 1)
        expected = 0.9 * expected + 0.1 * softmax(made.task.scan(method.teacher).logits.numpy())
    np.testing.assert_allclose(method.ensemble.numpy(), expected, rtol=1e-4, atol=1e-7)


def test_teacher_is_the_mean_and_then_the_running_mean_of_the_student() -> None:
    method = SelfEnsemble(toy().task, decay=0.6)
    expected = method.student.network.head.weight.detach().numpy().copy()
    for decay, batch in zip((1 / 2, 0.6, 0.6), method.batches(), strict=False):
        method.step(batch)
        expected = decay * expected + (1 - decay) * method.student.network.head.weight.detach().numpy()
    np.testing.assert_allclose(method.teacher.network.head.weight.detach().numpy(), expected, rtol=1e-4, atol=1e-7)


def test_a_dropped_label_comes_back_when_the_ensemble_agrees() -> None:
    made = toy(epochs=4)
    method = SelfEnsemble(made.task)
    disagreeing = torch.eye(4)[made.given]
    disagreeing[0] = disagreeing[0].roll(1)
    kept = list[tuple[bool, int]]()
    for epoch, ensemble in ((4, disagreeing), (8, torch.eye(4)[made.given])):
        method.best_ensemble.copy_(ensemble)
        method.best_epoch.fill_(epoch - 1)
        method.begin_epoch(epoch)
        kept.append((bool(method.is_kept[0]), int(method.is_kept.sum())))
    assert kept == [(False, 399), (True, 400)]


def test_a_round_starts_from_a_new_network_and_the_best_ensemble() -> None:
    made = toy(epochs=4)
    method = SelfEnsemble(made.task)
    at_start = copy.deepcopy(method.student.network.state_dict())
    train(method, epochs=4)
    method.best_ensemble.fill_(0.5)
    method.begin_epoch(4)
    torch.testing.assert_close(method.student.network.state_dict(), at_start, rtol=0, atol=0)
    torch.testing.assert_close(method.teacher.network.state_dict(), at_start, rtol=0, atol=0)
    assert (method.ensemble == 0.5).all()


@pytest.mark.parametrize("best_epoch", [3, 5])
def test_ends_when_a_round_was_no_better(best_epoch: int) -> None:
    method = SelfEnsemble(toy(epochs=4).task)
    method.best_epoch.fill_(best_epoch)
    was_in_round = best_epoch // 4
    before = copy.deepcopy(method.state_dict())
    method.begin_epoch(8)
    assert (len(list(method.batches())) == 0) == (was_in_round == 0)
    if was_in_round == 0:
        method.end_epoch(8)
        after = method.state_dict()
        for name in ("ensemble", "best_epoch", "student.network.head.weight", "is_kept"):
            torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)


def test_validation_samples_are_not_trained_on() -> None:
    method = SelfEnsemble(toy().task)
    indices = torch.cat([batch.indices for batch in method.batches()])
    assert int(method.held_out.sum()) == 40
    assert not method.held_out[indices].any()
    assert len(set(indices.tolist())) == 360


def test_predicts_by_the_best_teacher(run: tuple[Toy, Method]) -> None:
    made, method = run
    assert isinstance(method, SelfEnsemble)
    predicted = probabilities_of(method.predict, made.task.scan_data, CPU).argmax(dim=1)
    hits = (predicted == made.given)[method.held_out]
    assert hits.float().mean().item() == pytest.approx(method.best_accuracy.item())


def test_filters_wrong_labels(run: tuple[Toy, Method]) -> None:
    made, method = run
    assert isinstance(method, SelfEnsemble)
    assert auroc(method, made) > 0.85
    assert method.is_kept[made.is_noisy].double().mean() < 0.3
    assert method.is_kept[~made.is_noisy].double().mean() > 0.6
    assert ((method.clean_score() > 0) == (method.best_ensemble.argmax(dim=1) == made.given)).all()


def test_memorizes_less_than_plain_training(run: tuple[Toy, Method]) -> None:
    made, method = run
    assert_memorizes_less(method, made)
