"""How the model is called: with its inputs, or with the parts of a mapping by their names."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixnn_loader.model.device import called

PARTS = {"left": torch.ones(2, 3), "right": torch.zeros(2, 3)}


class ByName(nn.Module):
    def forward(self, left: Tensor, right: Tensor | None = None, scale: float = 2.0) -> Any:
        return "by name", left, right, scale


class AnyName(nn.Module):
    def forward(self, **parts: Tensor) -> Any:
        return "by name", parts["left"], parts["right"], 2.0


class AsOne(nn.Module):
    def forward(self, inputs: dict[str, Tensor]) -> Any:
        return "as one", inputs["left"], inputs["right"], 2.0


class AsOneWithMore(nn.Module):
    def forward(self, inputs: dict[str, Tensor], **more: Any) -> Any:
        assert not more
        return "as one", inputs["left"], inputs["right"], 2.0


class Wrapper(nn.Module):
    """Hands on whatever it gets."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


class OneOrNone(nn.Module):
    def forward(self, batch: dict[str, Tensor] | None = None, **more: Any) -> Any:
        assert batch is not None
        return "as one", batch["left"], batch["right"], more


class SomeByName(nn.Module):
    def forward(self, left: Tensor, **more: Tensor) -> Any:
        return "by name", left, more["right"], 2.0


@pytest.mark.parametrize(
    ("model", "way"),
    [
        (Wrapper(AsOne()), "as one"),
        (OneOrNone(), "as one"),
        (SomeByName(), "by name"),
        (ByName(), "by name"),
        (AnyName(), "by name"),
        (AsOne(), "as one"),
        (AsOneWithMore(), "as one"),
    ],
)
def test_a_mapping_is_given_as_forward_takes_it(model: nn.Module, way: str) -> None:
    found, left, right, _ = called(model, PARTS)
    assert found == way
    assert left is PARTS["left"]
    assert right is PARTS["right"]


def test_names_that_are_no_strings_are_given_as_one() -> None:
    class Numbered(nn.Module):
        def forward(self, inputs: dict[int, Tensor], **more: Any) -> Tensor:
            assert not more
            return inputs[0]

    assert called(Numbered(), {0: PARTS["left"]}) is PARTS["left"]


def test_parts_that_forward_does_not_have_are_named() -> None:
    class Two(nn.Module):
        def forward(self, left: Tensor, up: Tensor) -> Any:
            return left, up

    with pytest.raises(TypeError, match=r"its forward takes \('left', 'up'\); pass feature_layer="):
        called(Two(), PARTS)
