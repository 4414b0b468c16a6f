"""The layer that the user names, and what flows into it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixnn_loader.model.hooks import captured_inputs, find_feature_layer

C = 3


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, C), nn.ReLU(), nn.Linear(C, 4), nn.ReLU(), nn.Linear(4, C), nn.Linear(C, 7))


def test_a_dotted_name() -> None:
    model = nn.ModuleDict({"body": mlp()})
    assert find_feature_layer(model, "body.2") is model["body"].get_submodule("2")


def test_a_module_of_the_model() -> None:
    model = mlp()
    assert find_feature_layer(model, model[1]) is model[1]


def test_a_function() -> None:
    def look(model: nn.Module, inputs: Any) -> tuple[Tensor, Tensor]:
        return model(inputs), inputs

    assert find_feature_layer(mlp(), look) is look


@pytest.mark.parametrize(
    ("feature_layer", "message"),
    [
        ("body", "feature_layer 'body' is not in the model"),
        (nn.ReLU(), "feature_layer ReLU is not one of the model's modules"),
    ],
)
def test_a_layer_that_is_not_there_lists_the_candidates(feature_layer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        find_feature_layer(mlp(), feature_layer)
    candidates = "'0' (5 -> 3), '2' (3 -> 4), '4' (4 -> 3), '5' (3 -> 7)"
    assert str(caught.value).endswith(f"its linear layers: {candidates}")


@pytest.mark.parametrize("feature_layer", [4, ["4"]])
def test_a_feature_layer_of_another_kind_is_refused(feature_layer: Any) -> None:
    with pytest.raises(TypeError, match=f"feature_layer must be .* got {type(feature_layer).__name__}"):
        find_feature_layer(mlp(), feature_layer)


def test_captures_the_first_input_of_every_call() -> None:
    layer, inputs = nn.Bilinear(2, 2, C), [torch.randn(4, 2) for _ in range(3)]
    with captured_inputs(layer) as captured:
        layer(inputs[0], inputs[1])
        layer(input1=inputs[1], input2=inputs[2])
    assert len(captured) == 2
    assert all(torch.equal(found, given) for found, given in zip(captured, inputs[:2], strict=True))


@pytest.mark.parametrize("fails", [False, True])
def test_captures_nothing_after_the_context(fails: bool) -> None:
    layer = nn.Linear(2, C)

    def call(inputs: Tensor) -> list[Tensor]:
        opened: list[Tensor] = []
        try:
            with captured_inputs(layer) as opened:
                layer(inputs)
        except RuntimeError:
            assert fails
        return opened

    captured = call(torch.ones(4, 5 if fails else 2))
    layer(torch.ones(4, 2))
    assert len(captured) == 1


@pytest.mark.parametrize(("args", "kind"), [(([torch.ones(2)],), "list"), ((), "NoneType")])
def test_a_layer_that_takes_no_tensor_is_named(args: tuple[Any, ...], kind: str) -> None:
    class Layer(nn.Module):
        def forward(self, *_: Any) -> None:
            pytest.fail("was called")

    layer = Layer()
    with captured_inputs(layer), pytest.raises(TypeError, match=f"feature_layer Layer must take a tensor, got {kind}"):
        layer(*args)
