"""What the semi-supervised methods share."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.methods.common.semi_supervised import average_weights, balanced, endless, mix, ramp_up, sharpen


@pytest.fixture(autouse=True)
def seeded() -> None:
    np.random.seed(0)
    torch.manual_seed(0)


def test_mixes_inputs_and_targets_alike_and_mostly_of_the_sample_itself() -> None:
    inputs, targets = torch.randn(50, 3), torch.randn(50, 4).softmax(dim=1)
    for _ in range(20):
        mixed = mix(inputs, targets, alpha=1.0)
        assert 0.5 <= mixed.share <= 1
        assert sorted(mixed.partners.tolist()) == list(range(50))
        for part, found in ((inputs.numpy(), mixed.inputs), (targets.numpy(), mixed.targets)):
            expected = mixed.share * part + (1 - mixed.share) * part[mixed.partners.numpy()]
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_large_alpha_mixes_evenly() -> None:
    shares = [[mix(torch.ones(2, 1), torch.ones(2, 1), alpha).share for _ in range(200)] for alpha in (0.2, 4.0, 32.0)]
    seldom, medium, evenly = (np.mean(of_alpha) for of_alpha in shares)
    assert seldom > 0.85 > medium > 0.6 > evenly


def test_sharpening_squares_at_a_half() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    expected = probabilities**2 / (probabilities**2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(sharpen(torch.tensor(probabilities), 0.5).numpy(), expected)


@pytest.mark.parametrize(
    ("step", "length", "expected"),
    [(0, 10, math.exp(-5)), (5, 10, math.exp(-1.25)), (10, 10, 1), (99, 10, 1), (0, 0, 1)],
)
def test_ramp(step: float, length: float, expected: float) -> None:
    assert ramp_up(step, length) == pytest.approx(expected)


def test_averages_weights_and_leaves_running_statistics_alone() -> None:
    average, network = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))
    before = {name: value.clone().numpy() for name, value in average.state_dict().items()}
    network(torch.randn(8, 3))
    average_weights(average, network, 0.9)
    parameters = dict(network.named_parameters())
    for name, found in average.state_dict().items():
        expected = before[name]
        if name in parameters:
            expected = 0.9 * expected + 0.1 * parameters[name].detach().numpy()
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_balances_classes_and_leaves_nobody_out() -> None:
    labels = torch.tensor([0] * 7 + [2] * 3 + [5])
    places = balanced(labels)
    assert labels[places].bincount().tolist() == [7, 0, 7, 0, 0, 7]
    counts = places.bincount(minlength=len(labels))
    assert counts[:7].tolist() == [1] * 7
    assert sorted(counts[7:10].tolist()) == [2, 2, 3]
    assert balanced(labels[:0]).tolist() == []


def test_who_comes_once_more_is_drawn() -> None:
    labels = torch.tensor([0] * 4 + [1] * 3)
    once_more = {int(balanced(labels).bincount(minlength=7)[4:].argmax()) for _ in range(50)}
    assert once_more == {0, 1, 2}


def test_endless() -> None:
    assert list(islice(endless([1, 2, 3]), 7)) == [1, 2, 3, 1, 2, 3, 1]
