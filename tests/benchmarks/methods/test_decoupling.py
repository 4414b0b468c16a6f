import numpy as np
import pytest
import torch
from toy_measures import memorized
from toy_task import Toy, toy, train

from benchmarks.methods.cross_entropy import CrossEntropy
from benchmarks.methods.decoupling import Decoupling


@pytest.fixture(scope="module")
def made() -> Toy:
    return toy(epochs=16)


@pytest.mark.parametrize(("disagreeing", "divisor"), [([0, 3, 4], 3), ([5], 2), ([], 2)])
def test_loss_is_a_mean_over_disagreement(disagreeing: list[int], divisor: float) -> None:
    method = Decoupling(toy().task)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 4, generator=generator)
    labels = torch.randint(4, (20,), generator=generator)
    mask = torch.zeros(20, dtype=torch.bool)
    mask[disagreeing] = True
    exponentials = np.exp(logits.double().numpy())
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    expected = sum(-np.log(probabilities[row, labels[row]]) for row in disagreeing) / divisor
    assert method.loss(logits, labels, mask).item() == pytest.approx(expected, rel=1e-5)


def test_networks_learn_from_what_they_disagree_on(made: Toy) -> None:
    method = Decoupling(made.task)
    batch = next(iter(method.batches()))
    # The second one predicts as the first one does, so there is nothing to learn but the decay of the weights.
    method.second.network.load_state_dict(method.first.network.state_dict())
    before = method.first.network.head.weight.detach().clone()
    method.step(batch)
    shrunk = before * (1 - made.task.recipe.lr * made.task.recipe.weight_decay)
    torch.testing.assert_close(method.first.network.head.weight.detach(), shrunk)
    other = Decoupling(made.task)
    other.step(batch)
    assert (other.first.network.head.weight - shrunk).abs().max() > 1e-4


def test_memorizes_less_than_cross_entropy(made: Toy) -> None:
    assert memorized(train(Decoupling(made.task)), made) < memorized(train(CrossEntropy(made.task)), made) - 0.1
