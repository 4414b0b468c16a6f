"""What a plain loop may have besides: the loader's own forward passes leave all of it right."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import TensorDataset
from toy import MLP, NUM_CLASSES, Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss
from mixnn_loader.model.wrappers import unwrap

Step = Callable[[nn.Module, Any], Any]


def plain_net() -> nn.Sequential:
    """A network whose gradient of a batch is the mean of its samples'."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, NUM_CLASSES))


def wrapped(model: nn.Module, dataset: Any = None, **options: Any) -> MixNNDataLoader:
    """Mix and correct from the first batch on."""
    settings = {"batch_size": 10, "warmup_epochs": 0, "correction_epoch": 0, "search": "exact", **options}
    return MixNNDataLoader(Points() if dataset is None else dataset, model, **settings)


def loss_of(model: nn.Module, batch: Any) -> Any:
    return MixNNLoss()(model(batch.inputs), batch)


def trained(model: nn.Module, loader: Any, epochs: int = 2, step: Step = loss_of) -> list[float]:
    """Train in the simplest loop; return all losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(epochs):
            for batch in loader:
                optimizer.zero_grad()
                loss = step(model, batch)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
    return losses


def assert_same_weights(model: nn.Module, other: nn.Module) -> None:
    for name, value in other.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)


def test_accumulated_gradients_are_those_of_one_large_batch() -> None:
    small, large = plain_net(), plain_net()
    for batch in wrapped(small, momentum=1.0):  # targets that stay, or a batch would see what the one before did
        (loss_of(small, batch) / 4).backward()
    for batch in wrapped(large, batch_size=40, momentum=1.0):
        loss_of(large, batch).backward()
    for found, expected in zip(small.parameters(), large.parameters(), strict=True):
        assert found.grad is not None
        torch.testing.assert_close(found.grad, expected.grad)


def test_gradient_checkpointing_changes_nothing() -> None:
    class Checkpointed(MLP):
        def forward(self, inputs: Tensor) -> Tensor:
            logits: Tensor = self.head(checkpoint(self.body, inputs, use_reentrant=False))
            return logits

    plain, checkpointed = mlp(), Checkpointed()
    for model in (plain, checkpointed):
        model.body[1] = nn.Identity()  # BatchNorm would take in every batch twice, with MixNN or without
    checkpointed.load_state_dict(plain.state_dict())
    assert trained(checkpointed, wrapped(checkpointed)) == pytest.approx(trained(plain, wrapped(plain)))
    assert_same_weights(checkpointed, plain)


@pytest.mark.parametrize("own_dtype", [None, torch.bfloat16])
def test_every_weight_is_trained_where_the_whole_loop_is_under_autocast(own_dtype: torch.dtype | None) -> None:
    model = mlp()
    loader = wrapped(model, autocast_dtype=own_dtype)
    with torch.autocast("cpu", torch.bfloat16):
        for batch in loader:
            model.zero_grad()
            loss_of(model, batch).backward()
            assert all(parameter.grad is not None for parameter in model.parameters())


def test_autocast_around_the_forward_pass_alone() -> None:
    def step(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch.inputs)
        assert logits.dtype == torch.bfloat16
        loss = MixNNLoss()(logits, batch)
        assert loss.dtype == torch.float32
        return loss

    model, reference = mlp(), mlp()
    losses = trained(model, wrapped(model, autocast_dtype=torch.bfloat16), step=step)
    assert losses == pytest.approx(trained(reference, wrapped(reference)), abs=0.1)
    assert losses[-1] < losses[0]


def test_a_gradient_scaler_takes_the_same_steps() -> None:
    model, reference = mlp(), mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    loader = wrapped(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for batch in (batch for _ in range(2) for batch in loader):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, batch)).backward()
            scaler.step(optimizer)
            scaler.update()
    trained(reference, wrapped(reference))
    assert_same_weights(model, reference)


@pytest.mark.parametrize("given", ["compiled", "plain"])
def test_a_compiled_model_trains_as_it_does_uncompiled(given: str) -> None:
    model, reference = plain_net(), plain_net()
    compiled: Any = torch.compile(model, backend="aot_eager")
    losses = trained(compiled, wrapped(compiled if given == "compiled" else model))
    assert losses == pytest.approx(trained(reference, wrapped(reference)), rel=1e-4)


def test_a_channels_last_loop_trains_as_another(generator: torch.Generator) -> None:
    images = torch.randn(40, 3, 4, 4, generator=generator)
    dataset = TensorDataset(images, torch.arange(40) % NUM_CLASSES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reference = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, NUM_CLASSES))
    model: nn.Module = deepcopy(reference).to(memory_format=torch.channels_last)

    def step(model: nn.Module, batch: Any) -> Any:
        return loss_of(model, batch._replace(inputs=batch.inputs.to(memory_format=torch.channels_last)))

    losses = trained(model, wrapped(model, dataset), step=step)
    assert losses == pytest.approx(trained(reference, wrapped(reference, dataset)), rel=1e-4)


def averaged(model: nn.Module) -> AveragedModel:
    """An average of the weights that is far from the model's own, to tell one from the other."""
    average = AveragedModel(model)
    with torch.no_grad():
        for parameter in average.module.parameters():
            parameter.mul_(2)
    return average


def losses_by_hand(model: nn.Module, points: Points) -> Tensor:
    with torch.no_grad():
        return nn.functional.cross_entropy(model.eval()(points.inputs), points.labels, reduction="none")


@pytest.mark.parametrize("feature_layer", [None, "head"])
def test_scans_are_of_the_average_where_that_is_given(feature_layer: str | None) -> None:
    points, model = Points(), mlp()
    average = averaged(model)
    before = deepcopy(average.state_dict())
    loader = wrapped(average, points, feature_layer=feature_layer, momentum=0.0)
    for _ in loader:
        pass
    reference: Any = deepcopy(average.module)
    torch.testing.assert_close(loader.losses, losses_by_hand(reference, points))
    with torch.no_grad():
        torch.testing.assert_close(loader.soft_targets, reference(points.inputs).softmax(dim=1))
        features = reference.body(points.inputs)
    distances = torch.cdist(features.double(), features.double()).fill_diagonal_(torch.inf)
    assert torch.equal(loader.neighbor_indices[:, 0], distances.argmin(dim=1))
    assert all(torch.equal(value, before[name]) for name, value in average.state_dict().items())


def test_the_average_of_a_wrapped_model_is_seen_through() -> None:
    model = mlp()
    assert unwrap(AveragedModel(nn.DataParallel(model))) is not model
    assert isinstance(unwrap(AveragedModel(nn.DataParallel(model))), MLP)


@pytest.mark.parametrize("wrap", [AveragedModel, ModelEmaV3])
def test_an_average_beside_the_model_is_not_touched(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = mlp()
    average = wrap(model)
    before = deepcopy(average.state_dict())
    trained(model, wrapped(model), epochs=1)
    assert all(torch.equal(value, before[name]) for name, value in average.state_dict().items())
    assert not torch.equal(model.head.weight, before["module.head.weight"])


def test_timms_average_works_as_the_model(generator: torch.Generator) -> None:
    points, model = Points(), mlp()
    average = ModelEmaV3(model, decay=0.5)
    with torch.no_grad():
        average.module.head.weight.normal_(generator=generator)
    loader = wrapped(average, points)
    for _ in loader:
        pass
    torch.testing.assert_close(loader.losses, losses_by_hand(deepcopy(average.module), points))


def test_an_average_that_follows_the_training_is_what_is_asked() -> None:
    points, model = Points(), mlp()
    average = AveragedModel(model, avg_fn=lambda old, new, _: 0.5 * old + 0.5 * new)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = wrapped(average, points)
    for batch in loader:
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
        average.update_parameters(model)
    expected = deepcopy(average.module)
    next(iter(loader))
    torch.testing.assert_close(loader.losses, losses_by_hand(expected, points))
