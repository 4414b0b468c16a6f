"""Neighbor consistency: weights and loss, when it starts, and that less is memorized."""

import numpy as np
import pytest
import torch
from noisy_toys import long_toy, memorized_by_cross_entropy
from toy_measures import memorized, random_batch
from toy_task import toy, train

from benchmarks.methods.cross_entropy import CrossEntropy
from benchmarks.methods.ncr import NeighborConsistency, neighbor_weights


@pytest.fixture
def representations(generator: torch.Generator) -> torch.Tensor:
    """Return representations (6, 5) of both signs."""
    return torch.randn(6, 5, generator=generator) + 0.5


def by_hand(logits: np.ndarray, features: np.ndarray, num_neighbors: int, exponent: float, temperature: float) -> float:
    """Compute the divergence with a sample after another."""
    soft = np.exp(logits / temperature)
    soft /= soft.sum(axis=1, keepdims=True)
    losses = []
    for i, own in enumerate(features):
        similar = {
            j: max(0, own @ other / np.linalg.norm(own) / np.linalg.norm(other))
            for j, other in enumerate(features)
            if j != i
        }
        nearest = sorted(similar, key=lambda j: -similar[j])[:num_neighbors]
        total = sum(similar[j] ** exponent for j in nearest)
        target = sum(similar[j] ** exponent / total * soft[j] for j in nearest)
        losses.append(temperature**2 * (target * np.log(target / soft[i])).sum())
    return float(np.mean(losses))


@pytest.mark.parametrize(("num_neighbors", "exponent"), [(2, 1.0), (3, 2.0), (100, 1.0)])
def test_divergence_is_that_of_the_paper(num_neighbors: int, exponent: float, representations: torch.Tensor) -> None:
    logits, _ = random_batch()
    method = NeighborConsistency(toy().task, num_neighbors=num_neighbors, exponent=exponent)
    expected = by_hand(logits.double().numpy(), representations.double().numpy(), num_neighbors, exponent, 2.0)
    assert method.inconsistency(logits, representations).item() == pytest.approx(expected, rel=1e-4)


def test_alike_predictions_are_consistent(representations: torch.Tensor) -> None:
    logits, _ = random_batch(1)
    found = NeighborConsistency(toy().task).inconsistency(logits.expand(6, 4), representations)
    assert found.item() == pytest.approx(0, abs=1e-6)


def test_no_sample_is_its_own_neighbor(representations: torch.Tensor) -> None:
    # Two samples with the same representation are most similar to one another, and not to themselves.
    representations[1] = representations[0]
    weights = neighbor_weights(representations, 1, 1.0)
    assert weights.diagonal().eq(0).all()
    assert weights[0, 1] == weights[1, 0] == 1


def test_sample_that_is_similar_to_none_does_no_harm() -> None:
    weights = neighbor_weights(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]), 2, 1.0)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))


def test_batch_of_one_sample_trains() -> None:
    method = NeighborConsistency(toy().task)
    method.begin_epoch(5)
    _, batch = random_batch(1)
    method.step(batch)
    assert all(parameter.isfinite().all() for parameter in method.learner.network.parameters())


def test_starts_after_the_warm_up() -> None:
    parameters = []
    for make in (CrossEntropy, NeighborConsistency):
        task = toy(warmup_epochs=2).task
        method = make(task)
        for epochs in ((0, 2), (2, 3)):
            train(method, first=epochs[0], epochs=epochs[1])
            parameters.append(torch.nn.utils.parameters_to_vector(method.learner.network.parameters()).detach())
    assert torch.equal(parameters[0], parameters[2])
    assert not torch.equal(parameters[1], parameters[3])


def test_memorizes_less_than_cross_entropy() -> None:
    made = long_toy()
    assert memorized(train(NeighborConsistency(made.task)), made) < memorized_by_cross_entropy(long_toy) - 0.05
