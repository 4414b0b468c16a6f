"""What an epoch yields."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch

from mixnn_loader import MixNNBatch, MixNNTargets

MakeTargets = Callable[[int, int, int], MixNNTargets]


def test_a_batch_is_a_pair(make_targets: MakeTargets) -> None:
    made = make_targets(2, 1, 3)
    inputs, targets = batch = MixNNBatch(torch.ones(2, 5), made)
    assert batch.inputs is inputs
    assert batch.targets is targets is made


@pytest.mark.parametrize("num_neighbors", [0, 1, 3])
def test_mixed_is_the_weighted_sum_and_stays_on_the_simplex(make_targets: MakeTargets, num_neighbors: int) -> None:
    targets = make_targets(6, num_neighbors, 4)
    expected = np.einsum("bk,bkc->bc", targets.weights.double().numpy(), targets.soft_targets.double().numpy())
    np.testing.assert_allclose(targets.mixed, expected, atol=1e-6)
    assert (targets.mixed >= 0).all()
    np.testing.assert_allclose(targets.mixed.sum(dim=1), np.ones(6), atol=1e-6)


def test_mixed_is_float32_under_autocast(make_targets: MakeTargets) -> None:
    targets = make_targets(6, 2, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = targets.mixed
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, targets.mixed, rtol=0, atol=0)


@pytest.mark.parametrize("num_neighbors", [0, 2])
def test_len_is_the_number_of_samples(make_targets: MakeTargets, num_neighbors: int) -> None:
    assert len(make_targets(5, num_neighbors, 3)) == 5


@pytest.mark.parametrize("device", ["meta", torch.device("meta")])
def test_to_moves_every_tensor(make_targets: MakeTargets, device: torch.device | str) -> None:
    targets = make_targets(3, 1, 4)
    moved = targets.to(device, non_blocking=True)
    for field in fields(targets):
        assert getattr(moved, field.name).device.type == "meta"
        assert getattr(moved, field.name).shape == getattr(targets, field.name).shape
        assert getattr(targets, field.name).device.type == "cpu"


def test_to_copies_nothing_that_is_there_already(make_targets: MakeTargets) -> None:
    targets = make_targets(3, 1, 4)
    moved = targets.to("cpu")
    assert all(getattr(moved, field.name) is getattr(targets, field.name) for field in fields(targets))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
def test_pin_memory_pins_every_tensor(make_targets: MakeTargets) -> None:
    targets = make_targets(3, 1, 4)
    pinned = targets.pin_memory()
    for field in fields(targets):
        assert getattr(pinned, field.name).is_pinned()
        torch.testing.assert_close(getattr(pinned, field.name), getattr(targets, field.name))
