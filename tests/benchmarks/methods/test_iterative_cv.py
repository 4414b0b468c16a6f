import numpy as np
import pytest
import torch
from toy_measures import memorized, share_of_noise, whole_batch
from toy_task import Toy, auroc, toy, train

from benchmarks.methods import iterative_cv
from benchmarks.methods.iterative_cv import IterativeCV, noise_rate_of


@pytest.fixture(scope="module")
def made() -> Toy:
    return toy(epochs=10)


@pytest.fixture(scope="module")
def trained(made: Toy) -> IterativeCV:
    method = IterativeCV(made.task)
    train(method)
    return method


@pytest.mark.parametrize("num_classes", [4, 10, 100])
@pytest.mark.parametrize("accuracy", [0.05, 0.26, 0.4, 0.7, 0.99, 1.0])
def test_noise_rate_is_the_first_that_explains_the_accuracy(num_classes: int, accuracy: float) -> None:
    rates = np.arange(0, 1, 1e-4)
    explained = (1 - rates) ** 2 + rates**2 / (num_classes - 1)
    # Where no rate explains it, the accuracy is below chance; the nearest is that all is noise.
    expected = rates[explained <= accuracy][0] if (explained <= accuracy).any() else 1 - 1 / num_classes
    assert noise_rate_of(torch.tensor(accuracy), num_classes).item() == pytest.approx(expected, abs=2e-3)


def test_networks_are_tested_on_samples_they_have_not_seen(made: Toy) -> None:
    method = IterativeCV(made.task)
    for side in range(2):
        torch.manual_seed(1)
        method.begin_epoch(side * method.half_epochs)
        seen = torch.cat([batch.indices for batch, _ in method.batches()])
        assert len(method.held_out) == 200
        assert sorted([*seen.tolist(), *method.held_out.tolist()]) == list(range(400))


def test_selects_clean_samples(made: Toy, trained: IterativeCV) -> None:
    assert trained.selected.sum() > 180
    assert share_of_noise(made, trained.selected) < share_of_noise(made, torch.arange(400)) / 2
    assert share_of_noise(made, trained.discarded & ~trained.selected) > 0.6
    assert auroc(trained, made) > 0.8
    assert memorized(trained, made) < 0.25


def test_sets_are_apart(trained: IterativeCV) -> None:
    assert not (trained.selected & trained.candidate).any()
    assert not (trained.discarded & trained.candidate).any()
    assert (trained.selected | trained.discarded | trained.candidate).all()


def test_discards_in_proportion_to_what_is_selected(made: Toy) -> None:
    method = IterativeCV(made.task)
    method.begin_epoch(method.half_epochs)  # the second half is in training, the first one is held out
    method.halves.copy_(torch.arange(400) % 2)
    method.noise_rate.fill_(0.6)
    method.agrees.copy_(torch.arange(400) < 40)
    method.probability.copy_(torch.linspace(0, 1, 400))
    method.discard_worst()
    # Of the even samples 20 are selected, and 0.6 / 0.4 of that are discarded.
    assert method.discarded.nonzero().squeeze(1).tolist() == list(range(0, 60, 2))


def test_discards_nothing_under_pair_noise() -> None:
    made = toy(epochs=4, pair=True, num_samples=200)
    method = IterativeCV(made.task, symmetric=False)
    train(method, epochs=method.selection_epochs)
    assert not method.discarded.any()
    assert method.selected.any()


@pytest.mark.parametrize("symmetric", [True, False])
def test_leaves_out_what_is_still_wrong(made: Toy, symmetric: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    method, counts = IterativeCV(made.task, symmetric=symmetric, ramp_epochs=4), list[int]()
    monkeypatch.setattr(iterative_cv, "teach_each_other", lambda *arguments: counts.append(arguments[-1]))
    method.noise_rate.fill_(0.45)
    for epoch in range(6):
        method.epoch = method.selection_epochs + epoch
        method.step((whole_batch(made), None))
    odds = (0.55 / 0.45) ** 2 * (3 if symmetric else 1)
    expected = [round(400 * (1 - min(epoch / 4, 1) / (1 + odds))) for epoch in range(6)]
    assert counts == expected


def test_candidates_join_later(made: Toy, trained: IterativeCV) -> None:
    assert trained.candidate.any()
    joined = {}
    for epoch in range(made.task.num_epochs):
        trained.begin_epoch(trained.selection_epochs + epoch)
        joined[epoch] = [None if other is None else len(other) for _, other in trained.batches()]
    share = int(trained.candidate.sum()) / int(trained.selected.sum())
    assert set(joined[2]) == {None}  # 40 of 200 epochs
    assert joined[3][0] == min(int(40 * share), 20)
    assert len(joined[3]) == len(joined[2])
