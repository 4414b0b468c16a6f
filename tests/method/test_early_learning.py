"""The early-learning term: its gradient goes through the prediction alone, whatever the average takes in."""

import numpy as np
import pytest
import torch

from mixnn_loader.method.early_learning import EarlyLearning, changed_predictions, prediction

B, K, C = 6, 2, 4


@pytest.mark.parametrize("momentum", [None, 0.7])
def test_the_gradient_takes_the_average_as_given(momentum: float | None) -> None:
    rng = np.random.default_rng(0)
    averages = 0.8 * rng.dirichlet(np.ones(C), (B, K + 1))
    weights, raw = rng.dirichlet(np.ones(K + 1), B), rng.normal(size=(B, C))
    p = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    mixed = (weights[..., None] * averages).sum(axis=1)
    if momentum is not None:
        mixed = momentum * mixed + (1 - momentum) * p
    product = (mixed * p).sum(axis=1, keepdims=True)
    expected = -3.0 / (1 - product) * p * (mixed - product)

    logits = torch.from_numpy(raw).requires_grad_()
    term = EarlyLearning(torch.from_numpy(averages), 3.0, momentum).term(logits, torch.from_numpy(weights))
    np.testing.assert_allclose(term.detach().numpy(), 3.0 * np.log(1 - product[:, 0]), rtol=1e-9)
    [gradient] = torch.autograd.grad(term.sum(), logits)
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize(("num_classes", "least"), [(4, 1e-4), (100, 1e-4), (1000, 1e-5), (20_000, 5e-7)])
def test_clipping_leaves_a_certain_prediction_nearly_certain(num_classes: int, least: float) -> None:
    logits = torch.zeros(1, num_classes)
    logits[0, 0] = 50
    found = prediction(logits)[0]
    total = 1 - least + (num_classes - 1) * least
    torch.testing.assert_close(found[0], torch.tensor((1 - least) / total))
    torch.testing.assert_close(found[1:], torch.full((num_classes - 1,), least / total))
    assert found[0] > 0.989


def test_changed_predictions_are_those_of_samples_of_which_one_was_known() -> None:
    before = torch.tensor([[0.0, 0.0], [0.6, 0.4], [0.6, 0.4], [0.2, 0.8]])
    after = torch.tensor([[0.1, 0.9], [0.4, 0.6], [0.9, 0.1], [0.8, 0.2]])
    assert changed_predictions(before, after).tolist() == [2, 3]
