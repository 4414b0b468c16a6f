"""DivideMix."""

import math

import numpy as np
import pytest
import torch
from noisy_toys import assert_memorizes_less, assert_mends, trained
from toy_measures import softmax
from toy_task import Toy, toy, train

from benchmarks.harness.protocol import Method
from benchmarks.methods import dividemix
from benchmarks.methods.common.mixmatch import guess, refined, semi_supervised_loss
from benchmarks.methods.common.semi_supervised import Mix, mix, sharpen
from benchmarks.methods.dividemix import Divided, DivideMix, clean_posterior, published_weight


@pytest.fixture(scope="module")
def run() -> tuple[Toy, Method]:
    return trained(DivideMix)


def test_targets_of_labeled_samples(generator: torch.Generator) -> None:
    guessed = torch.randn(5, 4, generator=generator).softmax(dim=1)
    given, clean = torch.eye(4)[[0, 1, 2, 3, 0]], torch.tensor([1.0, 0.9, 0.7, 0.6, 0.5])
    share = clean.numpy()[:, None]
    expected = (share * given.numpy() + (1 - share) * guessed.numpy()) ** 2
    expected /= expected.sum(axis=1, keepdims=True)
    found = refined(given, clean, guessed, temperature=0.5)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    assert found[0].tolist() == [1, 0, 0, 0]  # no doubt, no change


def test_guesses_by_all_networks_and_views(generator: torch.Generator) -> None:
    learners = DivideMix(toy().task).eval().learners
    views = [torch.randn(5, 10, generator=generator) for _ in range(2)]
    logits = [learner(view).detach().numpy() for learner in learners for view in views]
    found = guess(learners, views)
    np.testing.assert_allclose(found.numpy(), np.mean([softmax(part) for part in logits], axis=0), rtol=1e-5)
    assert not found.requires_grad


@pytest.mark.parametrize("num_labeled", [4, 9])
def test_loss(num_labeled: int, generator: torch.Generator) -> None:
    logits = torch.randn(9, 3, generator=generator)
    targets = torch.randn(9, 3, generator=generator).softmax(dim=1)
    p, t = softmax(logits.numpy()), targets.numpy()
    expected = -(t[:num_labeled] * np.log(p[:num_labeled])).sum(axis=1).mean()
    expected += np.sum(np.log((1 / 3) / p.mean(axis=0)) / 3)
    if num_labeled < 9:
        expected += 25 * ((p[num_labeled:] - t[num_labeled:]) ** 2).mean()
    found = semi_supervised_loss(logits, targets, num_labeled, unlabeled_weight=25.0)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_penalty_in_the_warmup(generator: torch.Generator) -> None:
    logits, labels = torch.randn(6, 4, generator=generator), torch.tensor([0, 1, 2, 3, 0, 1])
    p = softmax(logits.numpy())
    cross_entropy = -np.log(p[np.arange(6), labels.numpy()]).mean()
    for confidence_penalty, expected in ((False, cross_entropy), (True, cross_entropy + (p * np.log(p)).sum(1).mean())):
        method = DivideMix(toy().task, confidence_penalty=confidence_penalty)
        assert method.warmup_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_posterior_of_the_lower_losses(generator: torch.Generator) -> None:
    low, high = (mean + 0.05 * torch.randn(count, generator=generator) for mean, count in ((0.2, 300), (0.8, 100)))
    posterior = clean_posterior(torch.cat([low, high]))
    assert posterior[:300].min() > 0.9
    assert posterior[300:].max() < 0.1
    without_two_clusters = clean_posterior(torch.rand(400, generator=generator))  # does not converge, and says nothing
    assert without_two_clusters.isfinite().all()


@pytest.mark.parametrize(
    ("num_classes", "rate", "expected"),
    [(10, 0.2, 0), (10, 0.4, 0), (10, 0.5, 25), (10, 0.8, 25), (10, 0.9, 50), (100, 0.2, 25), (100, 0.5, 150)],
)
def test_published_weight(num_classes: int, rate: float, expected: float) -> None:
    assert published_weight(rate, num_classes) == expected


def test_weight_rises_after_the_warmup() -> None:
    method = DivideMix(toy(epochs=75, warmup_epochs=5).task)  # 16 of 300 epochs are 4 of 75
    assert [method.rise(epoch) for epoch in (0, 5, 6, 7.5, 9, 70)] == [0, 0, 0.25, 0.625, 1, 1]


def test_at_extreme_noise_losses_are_averaged_and_the_threshold_is_higher() -> None:
    made = toy(rate=0.9, epochs=7, num_samples=120)
    method = DivideMix(made.task)
    train(method)
    assert method.threshold == 0.6
    assert method.losses.shape == (2, 5, 120)
    assert method.losses.isfinite().all()
    for member in range(2):
        expected = clean_posterior(torch.tensor(method.losses[member].numpy().mean(axis=0)))
        torch.testing.assert_close(method.clean_probability[member], expected)


def test_each_network_learns_from_the_division_by_the_other() -> None:
    made = toy()
    method = DivideMix(made.task)
    method.clean_probability.copy_(torch.rand(2, 400, generator=torch.Generator().manual_seed(0)))
    method.epoch = made.task.warmup_epochs
    batches = list(method.batches())
    assert [batch.member for batch in batches] == sorted(batch.member for batch in batches)
    for member in range(2):
        is_labeled = method.clean_probability[1 - member] > 0.5
        of_member = [batch for batch in batches if batch.member == member]
        labeled = torch.cat([batch.labeled.indices for batch in of_member])
        assert labeled.sort().values.tolist() == is_labeled.nonzero().flatten().tolist()
        for batch in of_member:
            assert batch.unlabeled is not None
            assert not is_labeled[batch.unlabeled.indices].any()
            assert len(batch.labeled.views) == len(batch.unlabeled.views) == 1
        assert max(len(batch.labeled) for batch in of_member) == 20  # of the recipe's 40


def test_targets_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    made = toy()
    method = DivideMix(made.task)
    method.clean_probability.copy_(torch.rand(2, 400, generator=torch.Generator().manual_seed(0)))
    method.epoch = made.task.warmup_epochs
    member, labeled, unlabeled, _ = next(iter(method.batches()))
    assert member == 0
    assert unlabeled is not None
    clean = method.clean_probability[1, labeled.indices]
    guessed = guess([method.first], [labeled.inputs, *labeled.views])
    expected = refined(torch.eye(4)[labeled.labels], clean, guessed, 0.5).repeat(2, 1)
    others = guess([method.first, method.second], [unlabeled.inputs, *unlabeled.views])
    expected = torch.cat([expected, sharpen(others, 0.5).repeat(2, 1)])
    seen = list[torch.Tensor]()

    def noting_mix(inputs: torch.Tensor, targets: torch.Tensor, alpha: float) -> Mix:
        seen.append(targets)
        return mix(inputs, targets, alpha)

    monkeypatch.setattr(dividemix, "mix", noting_mix)
    method.step(Divided(member, labeled, unlabeled, 2.0))
    assert method.first.training
    assert not method.second.training
    torch.testing.assert_close(seen, [expected])


def test_trains_one_network_at_a_time() -> None:
    made = toy()
    method = DivideMix(made.task)
    method.clean_probability[:, ::2] = 0.0
    method.epoch = made.task.warmup_epochs
    before = [learner.network.head.weight.clone() for learner in method.learners]
    method.step(next(iter(method.batches())))
    after = [learner.network.head.weight for learner in method.learners]
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_without_any_suspicion_all_is_labeled() -> None:
    made = toy(rate=0.0)
    method = DivideMix(made.task)
    method.epoch = made.task.warmup_epochs
    for batch in method.batches():
        assert batch.unlabeled is None
        method.step(batch)
    assert all(math.isfinite(parameter.sum().item()) for parameter in method.parameters())


def test_finds_and_mends_wrong_labels(run: tuple[Toy, Method]) -> None:
    made, method = run
    assert_mends(method, made)


def test_memorizes_less_than_plain_training(run: tuple[Toy, Method]) -> None:
    made, method = run
    assert_memorizes_less(method, made)
