"""The deep abstaining classifier: the loss, the price of abstaining, which verdict counts, and the second training."""

import numpy as np
import pytest
import torch
from noisy_toys import long_toy, memorized_by_cross_entropy
from toy_measures import memorized, random_batch
from toy_task import Toy, toy, train

from benchmarks.methods.dac import DeepAbstainingClassifier


@pytest.fixture(scope="module")
def made() -> Toy:
    """Return a task at half of noise."""
    return long_toy()


@pytest.fixture(scope="module")
def trained(made: Toy) -> DeepAbstainingClassifier:
    """Train twice."""
    method = DeepAbstainingClassifier(made.task)
    train(method)
    return method


def logits_with_abstention() -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (6, 5) and labels (6,)."""
    logits, batch = random_batch()
    return torch.cat([logits, logits[:, :1].flip(0)], dim=1), batch.labels


def parts_by_hand(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute (1 - a) CE and log(1 - a) of every sample."""
    answers, logs = [], []
    for row, label in zip(logits, labels, strict=True):
        powers = np.exp(row)
        abstention = powers[-1] / powers.sum()
        answers.append((1 - abstention) * -np.log(powers[label] / powers[:-1].sum()))
        logs.append(np.log(1 - abstention))
    return np.array(answers), np.array(logs)


def test_warm_up_is_cross_entropy_over_all_outputs() -> None:
    logits, labels = logits_with_abstention()
    method = DeepAbstainingClassifier(toy(warmup_epochs=2).task)
    method.begin_epoch(1)
    torch.testing.assert_close(
        method.abstaining_loss(logits, labels), torch.nn.functional.cross_entropy(logits, labels)
    )
    answers, _ = parts_by_hand(logits.double().numpy(), labels.numpy())
    assert method.mean_loss.item() == pytest.approx(answers.mean(), rel=1e-5)
    assert method.first_price.isnan()


def test_loss_and_price_are_those_of_the_official_code() -> None:
    logits, labels = logits_with_abstention()
    method = DeepAbstainingClassifier(toy(epochs=12, warmup_epochs=2).task)
    mean = None
    for epoch in (0, 2, 3, 11):
        method.begin_epoch(epoch)
        scaled = logits * (1 + epoch)
        found = method.abstaining_loss(scaled, labels).item()
        answers, logs = parts_by_hand(scaled.double().numpy(), labels.numpy())
        mean = answers.mean() if mean is None else 0.95 * mean + 0.05 * answers.mean()
        if epoch == 2:
            first = mean / 64
        if epoch >= 2:
            price = first + (epoch - 2) / 9 * (1 - first)
            assert method.price.item() == pytest.approx(price, rel=1e-4)
            assert found == pytest.approx((answers - price * logs).mean(), rel=1e-4)
    assert method.price.item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([0.0, 1.0, 0.8, 0.5, 0.45, 0.1], 0.5),  # the last one with enough
        ([0.0, 0.2, 0.3, 0.1], 0.3),  # never enough: the most
        ([0.6, 0.1, 0.5, 0.2], 0.5),
    ],
)
def test_verdict_is_of_the_last_epoch_with_enough_abstentions(shares: list[float], expected: float) -> None:
    made = toy(rate=0.5, epochs=12, num_samples=100, warmup_epochs=2)
    method = DeepAbstainingClassifier(made.task)
    for epoch, share in enumerate(shares, start=2):
        method.latest.fill_(1)
        method.latest[: round(100 * share)] = -1
        method.learner.optimizer.step()  # a schedule's step comes after one of its optimizer
        method.abstainer.optimizer.step()
        method.end_epoch(epoch)
    assert (method.margin < 0).double().mean().item() == pytest.approx(expected)


def test_second_training_does_not_see_the_dropped() -> None:
    made = toy(rate=0.3, epochs=6)
    method = DeepAbstainingClassifier(made.task)
    method.margin[:150] = -1
    made.task.begin_epoch(6)
    method.begin_epoch(6)
    seen = torch.cat([batch.indices for batch in method.batches()])
    assert sorted(seen.tolist()) == list(range(150, 400))
    before = [value.clone() for value in method.abstainer.parameters()]
    method.step(next(iter(method.batches())))
    assert all(torch.equal(value, old) for value, old in zip(method.abstainer.parameters(), before, strict=True))


def test_abstaining_on_all_does_not_stop_it() -> None:
    made = toy(epochs=6)
    method = DeepAbstainingClassifier(made.task)
    method.margin.fill_(-1)
    method.begin_epoch(6)
    assert sum(len(batch) for batch in method.batches()) == 400


def test_drops_as_many_as_are_wrong_and_of_these_more(made: Toy, trained: DeepAbstainingClassifier) -> None:
    dropped = trained.margin < 0
    assert 0.4 < dropped.double().mean().item() < 0.75
    noise = made.is_noisy.double()
    assert noise[dropped].mean() > noise[~dropped].mean() + 0.1


def test_memorizes_less_than_cross_entropy(made: Toy, trained: DeepAbstainingClassifier) -> None:
    assert memorized(trained, made) < memorized_by_cross_entropy(long_toy) - 0.15
