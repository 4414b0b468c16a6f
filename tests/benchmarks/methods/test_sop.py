"""Sparse over-parameterization: the loss, who learns from what, and that it finds the noise."""

import numpy as np
import pytest
import torch
from noisy_toys import long_toy, memorized_by_cross_entropy
from toy_measures import memorized, random_batch
from toy_task import Toy, auroc, toy, train

from benchmarks.methods.sop import SparseOverParameterization


@pytest.fixture(scope="module")
def made() -> Toy:
    """Return a task at half of noise."""
    return long_toy()


@pytest.fixture(scope="module")
def trained(made: Toy) -> SparseOverParameterization:
    """Train."""
    method = SparseOverParameterization(made.task)
    train(method)
    return method


def by_hand(logits: np.ndarray, labels: np.ndarray, u: np.ndarray, v: np.ndarray, v_in_likelihood: np.ndarray) -> float:
    """Compute the loss with a sample after another; v is given apart for the term through which it has no gradient."""
    losses = []
    for i, label in enumerate(labels):
        y = np.eye(4)[label]
        p = np.exp(logits[i]) / np.exp(logits[i]).sum()
        added, taken = np.minimum(u[i] ** 2, 1) * y, np.minimum(v[i] ** 2, 1) * (1 - y)
        taken_in_likelihood = np.minimum(v_in_likelihood[i] ** 2, 1) * (1 - y)
        q = np.maximum(p + added - taken_in_likelihood, 1e-4)
        q = np.maximum(q / q.sum(), 1e-4)
        distance = ((np.eye(4)[p.argmax()] + added - taken - y) ** 2).sum()
        losses.append(distance - np.log(q[label]))
    return float(np.mean(losses))


def test_loss_is_that_of_the_official_code() -> None:
    logits, batch = random_batch()
    generator = torch.Generator().manual_seed(1)
    u, v = torch.randn(6, 1, generator=generator), torch.randn(6, 4, generator=generator)
    u[2] = 1.5
    assert v.abs().max() > 1
    found = SparseOverParameterization(toy().task).loss(logits, batch.labels, u, v).item()
    values = v.double().numpy()
    expected = by_hand(logits.double().numpy(), batch.labels.numpy(), u.double().numpy(), values, values)
    assert found == pytest.approx(expected, rel=1e-5)


def test_v_learns_from_the_distance_alone() -> None:
    logits, batch = random_batch()
    u, v = torch.full((6, 1), 0.3).double().requires_grad_(), torch.full((6, 4), 0.4).double().requires_grad_()
    task = toy().task
    torch.autograd.backward(SparseOverParameterization(task).loss(logits.double(), batch.labels, u, v))
    assert u.grad is not None
    assert v.grad is not None
    values = logits.double().numpy(), batch.labels.numpy()
    u0, v0, step = u.detach().numpy(), v.detach().numpy(), 1e-6
    expected_u = by_hand(*values, u0 + step, v0, v0) - by_hand(*values, u0 - step, v0, v0)
    expected_v = by_hand(*values, u0, v0 + step, v0) - by_hand(*values, u0, v0 - step, v0)
    assert u.grad.sum().item() == pytest.approx(expected_u / 2e-6, rel=1e-4)
    assert v.grad.sum().item() == pytest.approx(expected_v / 2e-6, rel=1e-4)


def test_step_is_plain_descent_for_the_samples_in_the_batch() -> None:
    _, batch = random_batch()
    method = SparseOverParameterization(toy().task)
    method.u.fill_(0.5)
    method.v.fill_(0.5)
    logits = method.learner(batch.inputs).detach()
    u, v = torch.full((6, 1), 0.5, requires_grad=True), torch.full((6, 4), 0.5, requires_grad=True)
    torch.autograd.backward(method.loss(logits, batch.labels, u, v))
    assert u.grad is not None
    assert v.grad is not None
    method.step(batch)
    torch.testing.assert_close(method.u[:6], 0.5 - method.lr_u * u.grad)
    torch.testing.assert_close(method.v[:6], 0.5 - method.lr_v * v.grad)
    assert (method.u[6:] == 0.5).all()
    assert (method.v[6:] == 0.5).all()


@pytest.mark.parametrize(("epochs", "batch_size", "scale"), [(300, 128, 1.0), (150, 64, 1.0), (75, 128, 4.0)])
def test_rates_are_scaled_with_the_steps_of_a_sample(epochs: int, batch_size: int, scale: float) -> None:
    task = toy(epochs=epochs, batch_size=batch_size).task
    assert SparseOverParameterization(task).lr_u == pytest.approx(10 * scale)
    task.num_classes = 100
    assert SparseOverParameterization(task).lr_u == pytest.approx(scale)
    assert SparseOverParameterization(task).lr_v == pytest.approx(10 * scale)


def test_start_draws_nothing_from_the_global_generator() -> None:
    made = toy()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    method = SparseOverParameterization(made.task)
    assert torch.equal(torch.rand(3), expected)
    assert 0.5e-8 < method.v.std().item() < 2e-8


def test_memorizes_less_than_cross_entropy(made: Toy, trained: SparseOverParameterization) -> None:
    assert memorized(trained, made) < memorized_by_cross_entropy(long_toy) - 0.15


def test_noise_is_found_where_it_is(made: Toy, trained: SparseOverParameterization) -> None:
    assert auroc(trained, made) > 0.8
    right = (trained.corrected_labels() == made.true).double().mean()
    assert right > (~made.is_noisy).double().mean() + 0.15
