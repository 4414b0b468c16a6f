"""The public functions against NumPy, by their public names."""

import numpy as np
import pytest
import torch
from integration.reference import clean_posteriors, nearest

from mixnn_loader import functional


def test_mix(generator: torch.Generator) -> None:
    originals, partners = torch.randn(4, 2, 3, generator=generator), torch.randn(4, 2, 2, 3, generator=generator)
    weights = torch.rand(4, 3, generator=generator)
    x, y, w = originals.numpy(), partners.numpy(), weights.numpy()
    expected = w[:, 0, None, None] * x + np.einsum("bk,bkij->bij", w[:, 1:], y)
    np.testing.assert_allclose(functional.mix(originals, partners, weights).numpy(), expected, atol=1e-6)


def test_mix_targets(generator: torch.Generator) -> None:
    targets, weights = torch.rand(4, 3, 5, generator=generator), torch.rand(4, 3, generator=generator)
    expected = np.einsum("bk,bkc->bc", weights.numpy(), targets.numpy())
    np.testing.assert_allclose(functional.mix_targets(targets, weights).numpy(), expected, atol=1e-6)


def test_posterior_weights(generator: torch.Generator) -> None:
    probabilities = torch.rand(6, 4, generator=generator)
    found = torch.rand(6, 3, generator=generator) > 0.4
    members = np.concatenate([np.ones((6, 1)), found.numpy()], axis=1) * probabilities.numpy()
    expected = members / members.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(functional.posterior_weights(probabilities.log(), found).numpy(), expected, atol=1e-6)


def test_moving_average(generator: torch.Generator) -> None:
    targets, predictions = torch.rand(6, 4, generator=generator), torch.rand(6, 4, generator=generator)
    predictions[2, 1] = torch.nan
    expected = 0.8 * targets.numpy() + 0.2 * predictions.numpy()
    expected[2] = targets[2].numpy()
    moved = functional.moving_average(targets, predictions, momentum=0.8)
    np.testing.assert_allclose(moved.numpy(), expected, atol=1e-6)


def test_clean_posterior(generator: torch.Generator) -> None:
    losses = torch.cat([torch.rand(70, generator=generator), 3 + torch.rand(30, generator=generator)])
    expected = clean_posteriors(losses.double().numpy())
    np.testing.assert_allclose(functional.clean_posterior(losses).numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("search", ["auto", "exact", "cells"])
def test_nearest_neighbors(search: str, generator: torch.Generator) -> None:
    rows = torch.randn(50, 8, generator=generator)
    expected = nearest(rows.double().numpy(), np.arange(50), 3)
    np.testing.assert_array_equal(functional.nearest_neighbors(rows, 3, search).numpy(), expected)
