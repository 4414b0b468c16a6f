"""The user's model, asked for predictions without being changed."""

import weakref
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from mixnn_loader.model.modes import evaluating
from mixnn_loader.model.predictor import ModelView
from mixnn_loader.model.wrappers import unwrap

C = 3
Predict = Callable[[nn.Module, Tensor], object]


class Net(nn.Module):
    """A convolutional network with a frozen BatchNorm, dropout and a map for a representation."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.Dropout())
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(16, C))
        self.body[3].eval()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.body(images))
        return logits


class Called(nn.Module):
    """Calls its layer any number of times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.square = nn.Linear(C, C)

    def forward(self, rows: Tensor) -> Tensor:
        for _ in range(self.times):
            rows = self.square(rows)
        return rows


class Pair(nn.Linear):
    """Returns logits and representations."""

    def forward(self, rows: Tensor) -> Any:
        return super().forward(rows), 2 * rows


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.randn(6, 1, 4, 4, generator=generator)


def evaluated(model: nn.Module, inputs: Tensor) -> Tensor:
    """What a copy of the model says in eval mode."""
    with torch.no_grad():
        outputs: Tensor = deepcopy(model).eval()(inputs)
    return outputs


def compiled(model: nn.Module) -> nn.Module:
    wrapper = torch.compile(model, backend="eager")
    assert isinstance(wrapper, nn.Module)
    return wrapper


def look(model: nn.Module, inputs: Tensor) -> object:
    return ModelView(model).predict(inputs, need_representations=True)


def glance(model: nn.Module, inputs: Tensor) -> object:
    return ModelView(model).predict(inputs)


@pytest.mark.parametrize(
    "feature_layer", [None, "fc", "fc.1", lambda model, inputs: (model(inputs), model.body(inputs))]
)
def test_predicts_in_eval_mode(net: Net, images: Tensor, feature_layer: Any) -> None:
    logits, representations = ModelView(net, feature_layer).predict(images, need_representations=True)
    torch.testing.assert_close(logits, evaluated(net, images))
    assert representations is not None
    assert representations.shape == (6, 16)
    torch.testing.assert_close(representations, evaluated(net.body, images).flatten(1))


def test_a_module_for_a_feature_layer(net: Net, images: Tensor) -> None:
    _, representations = ModelView(net, net.body[1]).predict(images, need_representations=True)
    torch.testing.assert_close(representations, evaluated(net.body[0], images).flatten(1))


def test_without_representations(net: Net, images: Tensor) -> None:
    logits, representations = ModelView(net).predict(images)
    torch.testing.assert_close(logits, evaluated(net, images))
    assert representations is None


def test_the_penultimate_activations_of_a_timm_model(generator: torch.Generator) -> None:
    model: Any = timm.create_model("resnet18", num_classes=5)
    inputs = torch.randn(2, 3, 32, 32, generator=generator)
    logits, representations = ModelView(model).predict(inputs, need_representations=True)
    model.eval()
    with torch.no_grad():
        penultimate = model.forward_head(model.forward_features(inputs), pre_logits=True)
        torch.testing.assert_close(logits, model(inputs))
    torch.testing.assert_close(representations, penultimate)


@pytest.mark.parametrize("predict", [look, glance])
def test_leaves_flags_statistics_and_gradients_alone(net: Net, images: Tensor, predict: Predict) -> None:
    flags = [module.training for module in net.modules()]
    before = deepcopy(net.state_dict())
    predict(net, images)
    assert [module.training for module in net.modules()] == flags
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


def test_builds_no_graph(net: Net, images: Tensor) -> None:
    logits, representations = ModelView(net).predict(images.requires_grad_(), need_representations=True)
    assert representations is not None
    assert not logits.requires_grad
    assert not representations.requires_grad
    assert torch.is_grad_enabled()


def test_puts_flags_back_when_the_forward_raises(net: Net) -> None:
    flags = [module.training for module in net.modules()]
    with pytest.raises(RuntimeError, match="expected input"):
        look(net, torch.ones(6, 2, 4, 4))
    assert [module.training for module in net.modules()] == flags


def test_sets_the_flags_of_all_modules_one_by_one(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(mode: bool = True) -> None:
        pytest.fail(f"train({mode}) was called, which a user may have overridden")

    monkeypatch.setattr(net, "train", train)
    with evaluating(net):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net.body] == [True, True, True, False, True]


@pytest.mark.parametrize("error", [RuntimeError("same device? no"), OSError("gone")])
def test_an_error_in_the_forward_comes_out_once_and_alone(net: Net, images: Tensor, error: Exception) -> None:
    def fail(*_: Any) -> None:
        raise error

    net.body.register_forward_pre_hook(fail)
    with pytest.raises(type(error)) as caught:
        look(net, images)  # images, which are tried in channels_last, too
    assert caught.value is error
    assert error.__context__ is None
    assert error.__cause__ is None


@pytest.mark.parametrize("good", [True, False])
def test_leaves_no_hook_behind(net: Net, images: Tensor, good: bool) -> None:
    view = ModelView(net, net.body[0])
    if good:
        view.predict(images, need_representations=True)
    else:
        with pytest.raises(RuntimeError, match="expected input"):
            view.predict(torch.ones(6, 2, 4, 4), need_representations=True)
    kept = weakref.ref(later := images.clone())
    with torch.no_grad():
        net(later)
    del later
    assert kept() is None


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        compiled,
        lambda model: nn.DataParallel(compiled(nn.DataParallel(model))),
    ],
)
def test_sees_through_wrappers(net: Net, images: Tensor, wrap: Callable[[nn.Module], nn.Module]) -> None:
    wrapped = wrap(net)
    assert wrapped is not net
    assert unwrap(wrapped) is net
    logits, representations = ModelView(wrapped, "fc").predict(images, need_representations=True)
    torch.testing.assert_close(logits, evaluated(net, images))
    torch.testing.assert_close(representations, evaluated(net.body, images).flatten(1))


def test_sees_through_distributed_data_parallel(net: Net, tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert unwrap(nn.parallel.DistributedDataParallel(net)) is net
    finally:
        torch.distributed.destroy_process_group()


def test_autocast_gives_float32_predictions(net: Net, images: Tensor) -> None:
    seen: list[torch.dtype] = []
    net.fc.register_forward_hook(lambda *call: seen.append(call[-1].dtype))
    view = ModelView(net, autocast_dtype=torch.bfloat16)
    logits, representations = view.predict(images, need_representations=True)
    assert representations is not None
    assert set(seen) == {torch.bfloat16}
    assert logits.dtype == representations.dtype == torch.float32
    torch.testing.assert_close(logits, evaluated(net, images), atol=0.05, rtol=0.05)


def test_training_goes_on_in_the_autocast_of_the_caller(net: Net, images: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        look(net, images)
        net(images).float().square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_float64_logits_stay_float64(generator: torch.Generator) -> None:
    inputs = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    logits, representations = ModelView(nn.Linear(5, C).double()).predict(inputs, need_representations=True)
    assert representations is not None
    assert logits.dtype == torch.float64
    assert representations.dtype == torch.float32


@pytest.mark.parametrize("times", [0, 2])
def test_a_layer_not_called_once_is_refused(times: int) -> None:
    with pytest.raises(ValueError, match=f"feature layer 'square' must be called once .* {times} times; pass another"):
        look(Called(times), torch.ones(2, C))


def test_a_layer_called_once_is_not_refused() -> None:
    look(Called(1), torch.ones(2, C))


@pytest.mark.parametrize("predict", [look, glance])
def test_an_output_that_is_no_tensor_names_feature_layer(predict: Predict) -> None:
    with pytest.raises(TypeError, match=r"one tensor, got tuple of 2; pass feature_layer=, a function \(model, inp"):
        predict(Pair(4, C), torch.ones(2, 4))


def test_a_function_for_a_model_that_returns_a_pair(generator: torch.Generator) -> None:
    inputs = torch.randn(2, 4, generator=generator)
    view = ModelView(model := Pair(4, C), lambda model, inputs: model(inputs))
    logits, representations = view.predict(inputs, need_representations=True)
    torch.testing.assert_close(logits, nn.functional.linear(inputs, model.weight, model.bias).detach())
    torch.testing.assert_close(representations, 2 * inputs)
    logits_alone = view.predict(inputs)
    torch.testing.assert_close(logits_alone.logits, logits)
    assert logits_alone.representations is None


def test_a_function_that_returns_no_pair_is_named(net: Net, images: Tensor) -> None:
    view = ModelView(net, lambda model, inputs: model(inputs))
    with pytest.raises(TypeError, match=r"feature_layer= must return the pair \(logits, representations\), got Tensor"):
        view.predict(images)


def test_an_output_of_another_shape_is_named(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"logits \(B, C\), got shape \(6, 2, 2, 2\)"):
        glance(nn.Conv2d(1, 2, 3), images)


@pytest.mark.parametrize("width", [(), (2,), (2, 3)])
def test_representations_of_any_rank_are_flattened(net: Net, images: Tensor, width: tuple[int, ...]) -> None:
    rows = torch.ones(len(images), *width)
    _, representations = ModelView(net, lambda model, inputs: (model(inputs), rows)).predict(
        images, need_representations=True
    )
    assert representations is not None
    assert torch.equal(representations, rows.reshape(len(images), -1))


def test_representations_of_another_length_are_named(net: Net, images: Tensor) -> None:
    view = ModelView(net, lambda model, inputs: (model(inputs), inputs[1:]))
    with pytest.raises(ValueError, match=r"a row for each of the 6 inputs, got shape \(5, 1, 4, 4\)"):
        view.predict(images, need_representations=True)


@pytest.mark.parametrize(
    ("model", "device", "expected"),
    [
        (nn.Linear(1, 1), None, "cpu"),
        (nn.Linear(1, 1, device="meta"), None, "meta"),
        (nn.Linear(1, 1), torch.device("meta"), "meta"),
        (nn.ReLU(), None, "cpu"),
    ],
)
def test_runs_where_the_model_is(model: nn.Module, device: torch.device | None, expected: str) -> None:
    assert ModelView(model, device=device).device.type == expected


def test_a_model_compiled_in_place_is_run_as_it_was_written(net: Net, images: Tensor) -> None:
    net.eval()  # the call below must not move BatchNorm's statistics
    expected = ModelView(net).predict(images, need_representations=True)
    net.compile(backend="eager")
    net(images)
    found = ModelView(net).predict(images, need_representations=True)
    assert expected.representations is not None
    assert found.representations is not None
    torch.testing.assert_close(found.representations, expected.representations)
