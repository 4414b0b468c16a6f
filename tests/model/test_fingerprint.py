"""Whether a training step has changed any parameter."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from mixnn_loader._utils.random_state import kept_random_state
from mixnn_loader.model import fingerprint as module
from mixnn_loader.model.fingerprint import fingerprint, same


class Net(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        with kept_random_state():
            self.body = nn.Sequential(nn.Conv2d(1, 4, 3, dtype=dtype), nn.BatchNorm2d(4, dtype=dtype), nn.Flatten())
            self.head = nn.Linear(16, 3, dtype=dtype)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images))
        return logits


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.randn(6, 1, 4, 4, generator=generator)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("position", [0, 17, 47])
def test_the_smallest_change_of_one_value_is_seen(dtype: torch.dtype, position: int) -> None:
    model = nn.Linear(16, 3, dtype=dtype)
    before = fingerprint(model)
    assert same(before, fingerprint(model))
    weight = model.weight.detach()
    values = torch.view_as_real(weight).view(-1) if dtype.is_complex else weight.view(-1)
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
    values.view(integer)[position] += 1
    after = fingerprint(model)
    assert not same(before, after)
    assert (before != after).tolist() == [True, False]


@pytest.mark.parametrize("lr", [0.1, 1e-7])
def test_a_training_step_is_seen(lr: float, images: Tensor) -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    before = fingerprint(model)
    optimizer.zero_grad()
    model(images).square().mean().backward()
    assert same(before, fingerprint(model))  # forward and backward moved BatchNorm's statistics only
    model.eval()
    model(images)
    optimizer.zero_grad()
    assert same(before, fingerprint(model))
    model(images).square().mean().backward()
    optimizer.step()
    assert not same(before, fingerprint(model))


def swap(values: Tensor) -> None:
    values[3], values[40] = values[40].clone(), values[3].clone()


def swap_across_chunks(values: Tensor) -> None:
    """(chunk 1, place 2) and (chunk 2, place 1) of chunks of four."""
    values[6], values[9] = values[9].clone(), values[6].clone()


def swap_chunks(values: Tensor) -> None:
    """At the same place of two chunks of four."""
    values[2], values[6] = values[6].clone(), values[2].clone()


def curve(values: Tensor) -> None:
    """Changes that cancel in a sum, and in one weighted by the place."""
    values.view(torch.int32)[10:13] += torch.tensor([1, -2, 1], dtype=torch.int32)


def negate(values: Tensor) -> None:
    values.neg_()


@pytest.mark.parametrize("chunk", [4, 2**20])
@pytest.mark.parametrize("change", [swap, swap_across_chunks, swap_chunks, curve, negate])
def test_changes_that_cancel_in_sums_are_seen(
    change: Callable[[Tensor], None], chunk: int, monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    model = nn.Linear(16, 3)
    model.weight.data = torch.randn(3, 16, generator=generator)
    before = fingerprint(model)
    change(model.weight.data.view(-1))
    assert not same(before, fingerprint(model))


def test_nan_equals_nan() -> None:
    model = Net()
    with torch.no_grad():
        model.head.weight[1, 2] = torch.nan
        before = fingerprint(model)
        assert same(before, fingerprint(model))
        model.head.weight[1, 3] += 1
    assert not same(before, fingerprint(model))


def test_frozen_parameters_do_not_count() -> None:
    model = Net()
    model.body.requires_grad_(requires_grad=False)
    before = fingerprint(model)
    assert len(before) == 2
    with torch.no_grad():
        next(model.body.parameters()).add_(1)
    assert same(before, fingerprint(model))
    model.requires_grad_(requires_grad=False)
    assert fingerprint(model).shape == (0,)
    assert not same(before, fingerprint(model))
    assert fingerprint(nn.ReLU()).shape == (0,)


@pytest.mark.parametrize("change", ["memory format", "wrapper", "copy"])
def test_what_leaves_the_values_alone_is_no_change(change: str) -> None:
    model: nn.Module = Net()
    before = fingerprint(model)
    if change == "memory format":
        model = model.to(memory_format=torch.channels_last)
    elif change == "wrapper":
        model = nn.DataParallel(model)
    else:
        model = deepcopy(model)
    assert same(before, fingerprint(model))


def test_parameters_without_values_here_count_as_nothing() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 3, device="meta"), nn.Linear(3, 3))
    model.register_parameter("empty", nn.Parameter(torch.empty(0)))
    found = fingerprint(model)
    assert (found == 0).tolist() == [True] * 5 + [False] * 2


def test_a_sharded_parameter_counts_with_its_part() -> None:
    class Sharded(nn.Parameter):
        """Stands for a DTensor, whose own operations wait for all processes."""

        def detach(self) -> "Sharded":
            return self

        def to_local(self) -> Tensor:
            return self.data[:1]

    model = nn.Linear(2, 2)
    model.weight = Sharded(torch.ones(2, 2))
    before = fingerprint(model)
    model.weight.data[1] += 1
    assert same(before, fingerprint(model))
    model.weight.data[0] += 1
    assert not same(before, fingerprint(model))


def test_it_leaves_all_else_alone(images: Tensor) -> None:
    model = Net()
    state = torch.get_rng_state()
    model(images).sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    versions = [getattr(parameter, "_version", None) for parameter in model.parameters()]
    found = fingerprint(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert not found.requires_grad
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is gradient
        assert parameter.requires_grad
    assert [getattr(parameter, "_version", None) for parameter in model.parameters()] == versions


def test_the_default_type_and_device_change_nothing() -> None:
    model = Net()
    expected = fingerprint(model)
    assert expected.dtype == torch.int64
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        found = fingerprint(model)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert found.device.type == "cpu"
    assert same(expected, found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_it_is_the_same_on_a_gpu_and_of_a_model_in_parts() -> None:
    model = Net()
    expected = fingerprint(model)
    model.head.cuda()
    assert same(expected, fingerprint(model))
    assert same(expected, fingerprint(model.cuda()))
