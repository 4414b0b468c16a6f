"""What the user's loop does to a batch before the model is done to the loader's own batches, too."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mixnn_loader._utils.random_state import kept_random_state
from mixnn_loader.model.predictor import ModelView

WIDTH, C = 4, 3


@pytest.fixture
def model() -> nn.Linear:
    with kept_random_state():
        return nn.Linear(WIDTH, C)


@pytest.fixture
def rows(generator: torch.Generator) -> Tensor:
    return torch.randn(6, WIDTH, generator=generator)


def halved(inputs: Tensor) -> Tensor:
    return inputs.div_(2)


def test_the_model_gets_what_prepare_returns(model: nn.Linear, rows: Tensor) -> None:
    before = rows.clone()
    view = ModelView(model, prepare=halved)
    for _ in range(2):
        predictions = view.predict(rows, need_representations=True)
        assert torch.equal(predictions.logits, model(before / 2))
        assert predictions.representations is not None
        assert torch.equal(predictions.representations, before / 2)
        assert torch.equal(rows, before)  # prepare may work in place


def test_a_feature_function_gets_what_prepare_returns(model: nn.Linear, rows: Tensor) -> None:
    view = ModelView(model, lambda model, inputs: (model(inputs["x"]), inputs["x"]), prepare=lambda x: {"x": x / 2})
    assert torch.equal(view.predict(rows).logits, model(rows / 2))


def test_no_gradient_is_kept_in_prepare(model: nn.Linear, rows: Tensor) -> None:
    modes: list[bool] = []

    def prepare(inputs: Tensor) -> Tensor:
        modes.append(torch.is_grad_enabled())
        return inputs

    ModelView(model, prepare=prepare).predict(rows.requires_grad_())
    assert modes == [False]


def test_prepare_may_draw_random_numbers(model: nn.Linear, rows: Tensor) -> None:
    view = ModelView(model, prepare=lambda inputs: functional.dropout(inputs, 0.5))
    before = torch.get_rng_state()
    assert not torch.equal(view.predict(rows).logits, model(rows))
    assert torch.equal(torch.get_rng_state(), before)


def test_images_of_preparation_are_tried_in_channels_last_and_prepared_once() -> None:
    seen: list[bool] = []
    count = 0

    def images(inputs: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return inputs.reshape(len(inputs), 2, 2, 2)

    class Viewing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.is_contiguous())
            return images.mul_(2).view(len(images), -1)

    rows = torch.arange(16.0).reshape(2, 8)
    assert torch.equal(ModelView(Viewing(), prepare=images).predict(rows).logits, 2 * rows)
    assert seen == [False, True]
    assert count == 1


@pytest.mark.parametrize("prepare", [3, "normalize", torch.ones(2)])
def test_what_cannot_be_called_is_named(prepare: Any, model: nn.Linear) -> None:
    with pytest.raises(TypeError, match=r"prepare must be None or a function inputs -> inputs, got (int|str|Tensor)"):
        ModelView(model, prepare=prepare)


@pytest.mark.parametrize("result", [None, 3, [torch.ones(6), None]])
def test_a_result_that_is_no_nest_of_tensors_is_named(result: Any, model: nn.Linear, rows: Tensor) -> None:
    message = r"passed as prepare= must return what the model takes, a tensor .*, got (NoneType|int|list)$"
    with pytest.raises(TypeError, match=message):
        ModelView(model, prepare=lambda _: result).predict(rows)


@pytest.mark.parametrize(
    ("result", "shape"),
    [
        (torch.ones(5, WIDTH), r"\(5, 4\)"),
        ((torch.ones(6, WIDTH), torch.ones(1)), r"\(6, 4\), \(1,\)"),
        (torch.tensor(6), r"\(\)"),
        ([], r"\(\) of nothing"),
    ],
)
def test_a_result_of_other_rows_is_named(result: Any, shape: str, model: nn.Linear, rows: Tensor) -> None:
    with pytest.raises(ValueError, match=rf"prepare= must return a row for each of the 6 inputs, got shape {shape}$"):
        ModelView(model, prepare=lambda _: result).predict(rows)


def test_an_error_in_prepare_comes_out_as_it_is(model: nn.Linear) -> None:
    error = RuntimeError("view size is not compatible")
    count = 0

    def prepare(_: Tensor) -> Tensor:
        nonlocal count
        count += 1
        raise error

    with pytest.raises(RuntimeError) as caught:
        ModelView(model, prepare=prepare).predict(torch.ones(2, 3, 4, 4))
    assert caught.value is error
    assert count == 1
