import numpy as np
import pytest
import torch
from toy_measures import memorized, share_of_noise
from toy_task import Toy, auroc, toy, train

from benchmarks.methods.cross_entropy import CrossEntropy
from benchmarks.methods.odd import ODD


@pytest.fixture(scope="module")
def made() -> Toy:
    return toy(epochs=16)


@pytest.fixture(scope="module")
def trained(made: Toy) -> ODD:
    method = ODD(made.task)
    train(method)
    return method


def test_models_the_losses_of_random_labels(trained: ODD) -> None:
    head = trained.learner.network.head
    generator = np.random.default_rng(0)
    noise = np.maximum(generator.standard_normal((20_000, head.in_features)), 0)
    logits = noise @ head.weight.detach().double().numpy().T + head.bias.detach().double().numpy()
    labels = generator.integers(4, size=20_000)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(20_000), labels]
    torch.manual_seed(0)
    found = trained.modeled_losses().numpy()
    shares = [0.1, 0.5, 0.9]
    np.testing.assert_allclose(np.quantile(found, shares), np.quantile(losses, shares), rtol=0.1, atol=0.02)


def test_removes_what_exceeds_the_quantile(made: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    method = ODD(made.task, quantile=0.25)
    losses = torch.rand(400, 2, generator=torch.Generator().manual_seed(0))
    method.recent.copy_(losses)
    monkeypatch.setattr(method, "modeled_losses", lambda: torch.tensor([0.3, 0.4, 0.5, 0.6, 0.7]))
    method.learner.optimizer.step()
    method.end_epoch(6)
    assert method.kept.all()
    method.end_epoch(7)
    np.testing.assert_array_equal(method.kept, losses.double().numpy().mean(axis=1) <= 0.4)
    method.begin_epoch(8)
    assert {int(index) for batch in method.batches() for index in batch.indices} == set(
        method.kept.nonzero().squeeze(1).tolist()
    )


def test_learning_rate_is_high_until_the_removal(made: Toy) -> None:
    method = ODD(made.task)
    rates = []
    for epoch in range(16):
        method.begin_epoch(epoch)
        rates.append(method.learner.optimizer.param_groups[0]["lr"])
        method.learner.optimizer.step()
        method.learner.scheduler.step()
    cosine = 0.1 * (1 + np.cos(np.pi * np.arange(16) / 16)) / 2
    np.testing.assert_allclose(rates, [0.1] * 8 + cosine[8:].tolist())


def test_keeps_clean_samples(made: Toy, trained: ODD) -> None:
    assert trained.kept.sum() > 60
    assert share_of_noise(made, trained.kept) < 0.15
    assert auroc(trained, made) > 0.85
    assert memorized(trained, made) < memorized(train(CrossEntropy(made.task)), made) - 0.1
