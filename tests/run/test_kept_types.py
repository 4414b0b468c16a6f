"""Where the per-sample state is kept, and in which types: the batches are the same."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from toy import NUM_CLASSES, Points, mlp, tensors_of

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss

MOMENTUM = 0.9
CORRECTIONS = 3
RUN: dict[str, Any] = {"warmup_epochs": 1, "correction_epoch": 2, "momentum": MOMENTUM, "num_neighbors": 2}
EPOCHS = 2 + CORRECTIONS


def batches_of(model: nn.Module, learning_rate: float = 0.0, **arguments: Any) -> list[MixNNBatch]:
    """All batches of a training; without a learning rate the model stays as it is."""
    model.eval()  # no dropout and no statistics either
    loader = MixNNDataLoader(Points(), model, batch_size=8, **RUN, **arguments)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    batches = []
    for _ in range(EPOCHS):
        for batch in loader:
            optimizer.zero_grad()
            MixNNLoss()(model(batch.inputs), batch).backward()
            optimizer.step()
            batches.append(batch)
    return batches


def assert_same(actual: list[MixNNBatch], expected: list[MixNNBatch], tolerance: float) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert one.targets.indices.device == other.targets.indices.device
        torch.testing.assert_close(
            [one.inputs, *tensors_of(one.targets).values()],
            [other.inputs, *tensors_of(other.targets).values()],
            rtol=tolerance,
            atol=tolerance,
        )


SCANS = pytest.mark.parametrize("scan", ["epoch", "running"])


@SCANS
@pytest.mark.parametrize("neighbors", ["dataset", "batch"])
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_state_on_the_cpu_beside_a_model_on_a_gpu(neighbors: Any, scan: Any) -> None:
    beside, apart = (
        batches_of(mlp().cuda(), neighbors=neighbors, scan=scan, state_device=device) for device in ("cuda", "cpu")
    )
    assert {batch.targets.soft_targets.device.type for batch in apart} == {"cuda"}
    assert_same(apart, beside, tolerance=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_only_the_targets_losses_and_p_follow_state_device() -> None:
    loader = MixNNDataLoader(Points(), mlp().cuda(), batch_size=8, state_device="cpu", **RUN)
    for _ in range(3):
        inputs, targets = list(loader)[-1]
        assert inputs.device.type == targets.weights.device.type == "cuda"
    for kept in (loader.soft_targets, loader.losses, loader.clean_probability):
        assert kept.device.type == "cpu"


def corrected(steps: int) -> Tensor:
    """Eq. 12 with the same prediction in every epoch, (N, C)."""
    points = Points()
    with torch.no_grad():
        predictions = mlp().eval()(points.inputs).softmax(dim=1).double().numpy()
    targets = np.eye(NUM_CLASSES)[points.labels.numpy()]
    for _ in range(steps):
        targets = MOMENTUM * targets + (1 - MOMENTUM) * predictions
    return torch.tensor(targets, dtype=torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_targets_are_kept_in_the_type_and_handed_out_in_float32(dtype: torch.dtype) -> None:
    loader = MixNNDataLoader(Points(), mlp().eval(), batch_size=8, target_dtype=dtype, **RUN)
    # A number below one is at most a quarter of eps from its neighbor in the type, and is rounded in every step.
    rounding = CORRECTIONS * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps) / 4 + 1e-6
    for epoch in range(EPOCHS):
        expected = corrected(max(0, epoch - 1))
        for batch in loader:
            targets = batch.targets
            assert targets.soft_targets.dtype == targets.mixed.dtype == targets.weights.dtype == torch.float32
            members = torch.cat([targets.indices.unsqueeze(1), targets.neighbors], dim=1)
            own = (targets.soft_targets[:, 0] - expected[members[:, 0]]).abs().max()
            assert own <= rounding
        assert loader.soft_targets.dtype == dtype
        assert loader.state_dict()["samples"]["soft_targets"].dtype == dtype
        assert (loader.soft_targets.float() - expected).abs().max() <= rounding
    moved = (loader.soft_targets.float() - corrected(0)).abs().max()
    assert moved > 10 * rounding


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_targets_hardly_change_a_training(dtype: torch.dtype) -> None:
    exact, half = (
        batches_of(mlp(), learning_rate=0.02, target_dtype=kept, neighbors="batch") for kept in (torch.float32, dtype)
    )
    assert_same(half, exact, tolerance=4 * torch.finfo(dtype).eps)
    last, same = half[-1].targets.soft_targets, exact[-1].targets.soft_targets
    assert not torch.equal(last, same)


def pairs(count: int = 40) -> tuple[TensorDataset, Tensor]:
    """Samples in close pairs far from one another, and the other of each one's pair."""
    generator = torch.Generator().manual_seed(0)
    centers = 10 * torch.randn(count // 2, 8, generator=generator)
    inputs = centers.repeat_interleave(2, dim=0) + 0.1 * torch.randn(count, 8, generator=generator)
    labels = torch.randint(NUM_CLASSES, (count,), generator=generator)
    return TensorDataset(inputs, labels), torch.arange(count) ^ 1


@SCANS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_well_separated_neighbors_are_the_same_in_any_type(dtype: torch.dtype, scan: Any) -> None:
    dataset, others = pairs()
    model = nn.Linear(8, NUM_CLASSES)  # the inputs are the representations
    loader = MixNNDataLoader(
        dataset, model, batch_size=10, warmup_epochs=0, scan=scan, search="exact", representation_dtype=dtype
    )
    for _ in range(3):
        list(loader)
        assert torch.equal(loader.neighbor_indices.flatten(), others)
    kept = loader.state_dict()["samples"]["representations"]
    if scan == "epoch":
        assert kept is None
    else:
        assert kept.dtype == dtype
        torch.testing.assert_close(kept, dataset.tensors[0].to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("saved", [torch.float32, torch.float16])
def test_a_state_is_taken_over_in_the_types_of_the_loader(saved: torch.dtype) -> None:
    def make(dtype: torch.dtype) -> MixNNDataLoader:
        types: dict[str, Any] = {"target_dtype": dtype, "representation_dtype": dtype}
        return MixNNDataLoader(Points(), mlp().eval(), batch_size=8, scan="running", **RUN, **types)

    first, second = make(saved), make(torch.bfloat16)
    for _ in range(3):
        list(first)
    state = first.state_dict()
    second.load_state_dict(state)
    taken = second.state_dict()["samples"]
    for name in ("soft_targets", "representations"):
        assert state["samples"][name].dtype == saved
        assert torch.equal(taken[name], state["samples"][name].to(torch.bfloat16))
    list(second)
    assert second.soft_targets.dtype == torch.bfloat16


def test_representations_too_large_for_float16_are_told_of() -> None:
    inputs = torch.arange(40.0).unsqueeze(1).repeat(1, 5)
    dataset = TensorDataset(inputs, torch.arange(40) % 3)
    hidden = nn.Linear(5, 4)
    nn.init.constant_(hidden.weight, 350)
    model = nn.Sequential(hidden, nn.ReLU(), nn.Linear(4, 3))
    loader = MixNNDataLoader(dataset, model, batch_size=8, warmup_epochs=0, representation_dtype=torch.float16)
    with pytest.warns(RuntimeWarning, match="representation_dtype=torch.float16 holds none beyond 65,504"):
        next(iter(loader))
