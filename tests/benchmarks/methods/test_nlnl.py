import numpy as np
import numpy.typing as npt
import pytest
import torch
from toy_measures import memorized, whole_batch
from toy_task import Toy, auroc, toy, train

from benchmarks.methods.cross_entropy import CrossEntropy
from benchmarks.methods.nlnl import NLNL, class_weights


@pytest.fixture(scope="module")
def made() -> Toy:
    return toy(epochs=12)


def random_logits(size: int, num_classes: int = 4) -> torch.Tensor:
    return 2 * torch.randn(size, num_classes, generator=torch.Generator().manual_seed(0))


def softmax(logits: torch.Tensor) -> npt.NDArray[np.float64]:
    exponentials = np.exp(logits.double().numpy())
    result: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def test_trainings_are_as_long_as_published() -> None:
    assert NLNL(toy(epochs=300, num_samples=8).task).ends == [720, 1440, 2160, 2640, 3120]
    assert NLNL(toy(epochs=300, num_samples=8).task, length=0.1).ends == [72, 144, 216, 264, 312]


def test_complementary_labels_are_drawn_from_the_others(made: Toy) -> None:
    method = NLNL(made.task, draws=4000)
    labels, logits = made.given[:5], random_logits(5)
    terms = -np.log(1 - softmax(logits))
    expected = [np.delete(row, label).mean() for row, label in zip(terms, labels, strict=True)]
    torch.manual_seed(0)
    np.testing.assert_allclose(method.negative_losses(logits, labels) / 4000, expected, rtol=0.1)


def test_a_certain_mistake_has_no_endless_loss(made: Toy) -> None:
    logits = torch.tensor([[100.0, 0, 0, 0]])
    torch.manual_seed(0)
    loss = NLNL(made.task, draws=90).negative_losses(logits, torch.tensor([1])).item()
    count = loss / -np.log(1e-5)
    assert count == pytest.approx(round(count), abs=1e-3)
    assert 10 < count < 50


def test_class_weights() -> None:
    np.testing.assert_allclose(class_weights(torch.tensor([0, 0, 0, 2, 1, 1]), 4), [1, 1.5, 3, 0])


@pytest.mark.parametrize(("phase", "cut"), [(1, 0.25), (2, 0.5)])
def test_selects_by_the_mean_confidence(phase: int, cut: float, made: Toy) -> None:
    method = NLNL(made.task)
    method.recent.copy_(torch.rand(400, 10, generator=torch.Generator().manual_seed(0)))
    confidence = method.recent.double().numpy().mean(axis=1)
    method.begin_epoch(method.ends[phase - 1])
    logits = random_logits(400).requires_grad_()
    (gradients,) = torch.autograd.grad(method.loss(logits, whole_batch(made)), logits)
    np.testing.assert_array_equal(gradients.abs().sum(dim=1) > 0, confidence >= cut)


def test_positive_loss_is_a_weighted_mean(made: Toy) -> None:
    method = NLNL(made.task)
    method.recent.copy_(torch.rand(400, 10, generator=torch.Generator().manual_seed(0)))
    selected = method.recent.double().numpy().mean(axis=1) >= 0.5
    labels, logits = made.given.numpy(), random_logits(400)
    losses = -np.log(softmax(logits)[np.arange(400), labels])
    for phase, among in ((2, np.ones(400, dtype=bool)), (3, selected)):
        counts = np.bincount(labels[among], minlength=4)
        weights = (counts.max() / counts)[labels] * selected
        method.begin_epoch(method.ends[phase - 1])
        # The second call would see this epoch's predictions in the means.
        before = method.recent.clone()
        found = method.loss(logits, whole_batch(made)).item()
        method.recent.copy_(before)
        assert found == pytest.approx((losses * weights).sum() / weights.sum(), rel=1e-4)


def test_soft_targets_are_the_mean_of_the_last_predictions(made: Toy) -> None:
    method = NLNL(made.task, window=3)
    method.recent.fill_(1)
    batch, generator = whole_batch(made), torch.Generator().manual_seed(0)
    noted = []
    for epoch in range(method.ends[2], method.ends[3]):
        method.begin_epoch(epoch)
        logits = torch.randn(400, 4, generator=generator)
        method.loss(logits, batch)
        noted.append(softmax(logits))
    targets = np.mean(noted[-3:], axis=0)
    np.testing.assert_allclose(method.soft_targets, targets, atol=1e-5)
    labels = method.corrected_labels()
    assert labels is not None
    np.testing.assert_array_equal(labels, targets.argmax(axis=1))
    method.begin_epoch(method.ends[3])
    logits = random_logits(400)
    counts = np.bincount(targets.argmax(axis=1), minlength=4)
    weights = (counts.max() / counts)[targets.argmax(axis=1)]
    expected = (-(targets * np.log(softmax(logits))).sum(axis=1) * weights).mean()
    assert method.loss(logits, batch).item() == pytest.approx(expected, rel=1e-4)


def test_learning_rate_is_constant_before_the_pseudo_labels(made: Toy) -> None:
    method = NLNL(made.task)
    method.recent.fill_(1)
    rates = []
    for epoch in range(method.num_epochs):
        method.begin_epoch(epoch)
        method.end_epoch(epoch)
        rates.append(method.learner.optimizer.param_groups[0]["lr"])
    cosine = [0.1 * (1 + np.cos(np.pi * epoch / 19)) / 2 for epoch in range(19)]
    np.testing.assert_allclose(rates, [0.1] * 87 + cosine + cosine)


def test_corrects_labels(made: Toy) -> None:
    method = train(NLNL(made.task, length=0.3))
    corrected = method.corrected_labels()
    assert corrected is not None
    assert (corrected == made.true).double().mean() > 0.8
    assert auroc(method, made) > 0.9
    assert memorized(method, made) < memorized(train(CrossEntropy(made.task)), made) - 0.05
