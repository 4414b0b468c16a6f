import numpy as np
import pytest
import torch
from toy_measures import memorized, whole_batch
from toy_task import Toy, auroc, toy, train

from benchmarks.methods.cross_entropy import CrossEntropy
from benchmarks.methods.mentornet import MentorNet, PredefinedMentorNet


@pytest.fixture(scope="module")
def made() -> Toy:
    return toy(epochs=16)


def test_threshold_follows_the_quantile(made: Toy) -> None:
    method = MentorNet(made.task)
    batch = whole_batch(made).select(torch.arange(31))  # the 0.7-quantile is one of 31 values
    generator = torch.Generator().manual_seed(0)
    threshold = 0.0
    for _ in range(4):
        logits = torch.randn(31, 4, generator=generator)
        exponentials = np.exp(logits.double().numpy())
        losses = -np.log((exponentials / exponentials.sum(axis=1, keepdims=True))[np.arange(31), batch.labels.numpy()])
        threshold = 0.5 * threshold + 0.5 * np.sort(losses)[21]
        expected = losses[losses <= threshold].sum() / 31
        assert method.loss(logits, batch).item() == pytest.approx(expected, rel=1e-4)
        np.testing.assert_allclose(method.losses[:31], losses, rtol=1e-4)
    assert method.threshold.item() == pytest.approx(threshold, rel=1e-4)


def test_predefined_curriculum_changes_with_training() -> None:
    method = PredefinedMentorNet(toy(epochs=100).task)
    excess = torch.linspace(-1, 2, 4001).double()
    torch.manual_seed(0)
    for epoch, expected, used in (
        (0, np.ones(4001), 0.5),
        (16, np.ones(4001), 0.5),
        (18, np.ones(4001), 0.95),
        (19, excess.numpy() <= 0, 0.95),
        (89, excess.numpy() <= 0, 0.95),
        (90, np.clip(1 - excess.numpy(), 0, 1), 0.95),
    ):
        method.begin_epoch(epoch)
        weights = method.weights(excess).numpy()
        is_used = np.isclose(weights, expected) & (weights > 0)
        assert is_used.sum() == pytest.approx(used * (expected > 0).sum(), rel=0.05)
        assert (is_used | (weights == 0)).all()


@pytest.mark.parametrize(("rate", "quantile"), [(0.2, 0.75), (0.4, 0.75), (0.8, 0.5)])
def test_predefined_quantile_goes_by_the_noise_rate(rate: float, quantile: float) -> None:
    assert PredefinedMentorNet(toy(rate=rate).task).quantile == quantile


@pytest.mark.parametrize("kind", [MentorNet, PredefinedMentorNet])
def test_finds_wrong_labels_and_memorizes_less_than_cross_entropy(kind: type[MentorNet], made: Toy) -> None:
    method = train(kind(made.task))
    assert memorized(method, made) < memorized(train(CrossEntropy(made.task)), made) - 0.05
    assert auroc(method, made) > 0.9
