"""Forward correction: the loss, the estimate of T, the two trainings, and that less is memorized."""

import numpy as np
import pytest
import torch
from toy_measures import memorized, random_batch
from toy_task import Toy, accuracy, toy, train

from benchmarks.methods.cross_entropy import CrossEntropy
from benchmarks.methods.forward_correction import ForwardCorrection, estimate_transition, forward_loss


def make() -> Toy:
    """Make a task."""
    return toy(rate=0.4, epochs=20, num_samples=300, lr=0.03)


@pytest.fixture(scope="module")
def made() -> Toy:
    """Return the task."""
    return make()


@pytest.fixture(scope="module")
def trained(made: Toy) -> ForwardCorrection:
    """Train twice."""
    method = ForwardCorrection(made.task)
    train(method)
    return method


def actual_transition(made: Toy) -> np.ndarray:
    """Count how often each class is labeled as each."""
    counts = np.zeros((4, 4))
    np.add.at(counts, (made.true.numpy(), made.given.numpy()), 1)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def test_loss_is_that_of_the_paper() -> None:
    logits, batch = random_batch()
    transition = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    transition /= transition.sum(dim=1, keepdim=True)
    expected = []
    for row, label in zip(logits.double().numpy(), batch.labels.tolist(), strict=True):
        p = np.exp(row) / np.exp(row).sum()
        expected.append(-np.log(sum(p[c] * transition[c, label].item() for c in range(4))))
    assert forward_loss(logits, batch.labels, transition).item() == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize(("outlier_share", "rank"), [(0.0, 1), (0.03, 4)])
def test_estimate_takes_the_surest_sample_that_is_no_outlier(outlier_share: float, rank: int) -> None:
    # Of 100 samples, the three with the largest values are outliers, as they are at or above the 97th percentile.
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(100, 4, generator=generator)
    probabilities /= probabilities.sum(dim=1, keepdim=True)
    found = estimate_transition(probabilities, outlier_share).numpy()
    values = probabilities.numpy()
    for label in range(4):
        surest = np.argsort(-values[:, label])[rank - 1]
        np.testing.assert_allclose(found[label], values[surest], rtol=1e-5)


def test_estimate_of_exact_predictions_is_exact() -> None:
    transition = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.8, 0.2], [0.1, 0.0, 0.9]])
    true = torch.arange(300) % 3
    torch.testing.assert_close(estimate_transition(transition[true], 0.0), transition)


def test_estimate_is_close_to_the_truth(made: Toy, trained: ForwardCorrection) -> None:
    error = np.abs(trained.transition.numpy() - actual_transition(made)).mean()
    assert error < 0.1
    assert np.abs(np.eye(4) - actual_transition(made)).mean() > 0.15


def test_first_training_leaves_the_held_out_samples_alone() -> None:
    made = make()
    method = ForwardCorrection(made.task)
    made.task.begin_epoch(0)
    method.begin_epoch(0)
    seen = torch.cat([batch.indices for batch in method.batches()])
    assert len(seen) == len(set(seen.tolist())) == round(0.9 * made.task.num_samples)


def test_second_training_starts_anew_and_on_all_samples() -> None:
    made = make()
    method = ForwardCorrection(made.task)
    train(method, epochs=20)
    made.task.begin_epoch(20)
    method.begin_epoch(20)
    fresh = CrossEntropy(make().task).learner.network.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in method.learner.network.state_dict().items())
    seen = torch.cat([batch.indices for batch in method.batches()])
    assert len(seen) == made.task.num_samples


def test_estimate_is_of_the_epoch_with_the_lowest_loss() -> None:
    made = make()
    method = ForwardCorrection(made.task)
    train(method, epochs=1)
    best = {name: value.clone() for name, value in method.first.network.state_dict().items()}
    lowest = method.lowest_loss.item()
    assert 0 < lowest < 2
    with torch.no_grad():
        method.first.network.head.weight.mul_(-5)
    method.end_epoch(1)
    assert method.lowest_loss.item() == lowest
    assert all(torch.equal(value, best[name]) for name, value in method.best.network.state_dict().items())


def test_is_right_where_plain_training_is_not(made: Toy, trained: ForwardCorrection) -> None:
    plain = train(CrossEntropy(make().task))
    assert accuracy(trained, made) > accuracy(plain, made) + 0.02
    assert memorized(trained, made) < memorized(plain, made) - 0.05
