from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from toy_measures import memorized, whole_batch
from toy_task import Toy, auroc, toy, train

from benchmarks.harness.learner import Learner
from benchmarks.methods.co_teaching import CoTeaching, ramp, teach_each_other
from benchmarks.methods.cross_entropy import CrossEntropy


@pytest.fixture(scope="module")
def made() -> Toy:
    return toy(epochs=16)


def test_ramp() -> None:
    assert [ramp(epoch, 4) for epoch in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_each_learns_from_the_choice_of_the_other(made: Toy) -> None:
    batch = whole_batch(made).select(torch.arange(30))
    first, second = made.task.learner(), made.task.learner(member=1)
    labels = batch.labels.numpy()

    def probabilities(learner: Learner) -> npt.NDArray[np.float64]:
        exponentials = np.exp(learner(batch.inputs).detach().double().numpy())
        result: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return result

    before = {learner: learner.network.head.bias.detach().double().numpy().copy() for learner in (first, second)}
    ps = {learner: probabilities(learner) for learner in (first, second)}
    losses = {learner: -np.log(p[np.arange(30), labels]) for learner, p in ps.items()}
    choices = {learner: np.argsort(loss)[:12] for learner, loss in losses.items()}
    assert set(choices[first]) != set(choices[second])
    returned = teach_each_other(first, second, batch, 12)
    np.testing.assert_allclose(returned, (losses[first] + losses[second]) / 2, rtol=1e-4)
    recipe = made.task.recipe
    for learner, other in ((first, second), (second, first)):
        gradient = (ps[learner] - np.eye(4)[labels])[choices[other]].mean(axis=0)
        expected = before[learner] - recipe.lr * (gradient + recipe.weight_decay * before[learner])
        np.testing.assert_allclose(learner.network.head.bias.detach(), expected, atol=1e-5)


def test_leaves_out_the_noise_rate_after_the_ramp(made: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    def note(*arguments: Any) -> torch.Tensor:
        counts.append(arguments[3])
        return torch.zeros(40)

    monkeypatch.setattr("benchmarks.methods.co_teaching.teach_each_other", note)
    method = CoTeaching(made.task, ramp_epochs=4)
    batch = whole_batch(made).select(torch.arange(40))
    for epoch in range(6):
        method.begin_epoch(epoch)
        method.step(batch)
    assert counts == [36, 32, 28, 24, 24, 24]


def test_finds_wrong_labels_and_memorizes_less_than_cross_entropy(made: Toy) -> None:
    method = train(CoTeaching(made.task))
    assert memorized(method, made) < memorized(train(CrossEntropy(made.task)), made) - 0.1
    assert auroc(method, made) > 0.93
