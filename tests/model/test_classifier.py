"""The classifier: named by the model, or found by its width and in the forward pass."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from mixnn_loader.model.classifier import classifiers, find_classifier

C = 3


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, C), nn.ReLU(), nn.Linear(C, 4), nn.ReLU(), nn.Linear(4, C), nn.Linear(C, 7))


class WithClassifier(nn.Module):
    """A model that follows timm's convention, whatever its ``get_classifier`` returns."""

    def __init__(self, choose: Callable[["WithClassifier"], Any]) -> None:
        super().__init__()
        self.head = nn.Conv2d(5, C, 1)
        self.fc = nn.Linear(5, C)
        self.last = nn.Linear(C, C + 1)
        self.get_classifier = lambda: choose(self)


def test_the_last_linear_layer_as_wide_as_the_output() -> None:
    model = mlp()
    assert classifiers(model, C)[-1] is model[4]
    assert classifiers(model, 4)[-1] is model[2]


def test_the_classifier_that_the_model_names() -> None:
    model = WithClassifier(lambda model: model.head)
    assert classifiers(model, C)[-1] is model.head


@pytest.mark.parametrize(
    "choose",
    [
        lambda _: nn.Identity(),
        lambda _: None,
        lambda model: (model.fc, model.last),
        lambda model: nn.ModuleList([model.fc, model.last]),
    ],
)
def test_a_model_without_one_real_classifier(choose: Callable[[WithClassifier], Any]) -> None:
    model = WithClassifier(choose)
    assert classifiers(model, C)[-1] is model.fc


def test_a_model_of_timm() -> None:
    model = timm.create_model("resnet18", num_classes=5)
    assert classifiers(model, 5)[-1] is model.fc


def test_a_model_without_a_linear_layer_says_so() -> None:
    with pytest.raises(ValueError, match=r"it has no linear layer$"):
        classifiers(nn.Conv2d(3, C, 1), C)


def test_convolutions_as_wide_as_the_output_are_named() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv1d(8, C, 1), nn.Conv2d(8, C, 1), nn.Linear(C, 4))
    message = r"its convolutions with 3 outputs: '1' \(Conv1d, 8 -> 3\), '2' \(Conv2d, 8 -> 3\); its linear layers: '3'"
    with pytest.raises(ValueError, match=message):
        classifiers(model, C)


def test_without_a_layer_of_that_width_the_linear_ones_are_listed() -> None:
    message = (
        r"no torch\.nn\.Linear with 6 outputs was found in Sequential; pass feature_layer=, the layer whose input is "
        r"the representation, or a function \(model, inputs\) -> \(logits, representations\); "
        r"its linear layers: '0' \(5 -> 3\), '2' \(3 -> 4\), '4' \(4 -> 3\), '5' \(3 -> 7\)$"
    )
    with pytest.raises(ValueError, match=message):
        classifiers(mlp(), 6)


class Calls(nn.Module):
    """Calls some of its heads, and returns what ``combine`` makes of what they say."""

    def __init__(self, called: list[int], combine: Callable[..., Tensor]) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(2, C) for _ in range(3)])
        self.called = called
        self.combine = combine

    def forward(self, rows: Tensor) -> Tensor:
        return self.combine(*(self.heads[place](rows) for place in self.called))


def found(model: Calls, rows: Tensor) -> list[bool]:
    classifier = find_classifier(model, lambda: model.eval()(rows))
    return [head is classifier for head in model.heads]


@pytest.mark.parametrize(
    ("called", "combine", "expected"),
    [
        ([0], lambda logits: logits, 0),
        ([0, 1], lambda _, logits: logits, 1),
        ([1, 0], lambda logits, _: logits, 1),
        ([0], lambda logits: logits * 2, 0),
        ([0, 2], lambda _, logits: logits.mul_(2), 2),
        ([0, 2], lambda _, logits: logits * torch.nan, None),
        ([], lambda: torch.zeros(4, C), 2),
    ],
)
def test_the_last_head_that_is_called(called: list[int], combine: Callable[..., Tensor], expected: int | None) -> None:
    model = Calls(called, combine)
    if expected is None:
        model.heads[2].load_state_dict({"weight": torch.full((C, 2), torch.nan), "bias": torch.zeros(C)})
        expected = 2  # its output is the logits, NaN and all
    assert found(model, torch.ones(4, 2)) == [place == expected for place in range(3)]


@pytest.mark.parametrize("combine", [torch.add, lambda one, _: one, lambda _, two: two[:, [1, 0, 2]]])
def test_doubt_is_told(combine: Callable[..., Tensor]) -> None:
    message = (
        r"feature_layer is None, and 2 linear layers with 3 outputs .* the last, 'heads\.1', .*; "
        r"for another choice pass feature_layer='heads\.0', for this one feature_layer='heads\.1'"
    )
    with pytest.warns(UserWarning, match=message):
        assert found(Calls([0, 1], combine), torch.ones(4, 2)) == [False, True, False]


def test_leaves_no_hook_behind() -> None:
    model, rows = Calls([0, 1], lambda _, logits: logits), torch.ones(4, 2)
    assert find_classifier(model, lambda: model(rows)) is model.heads[1]
    kept = weakref.ref(later := model.heads[0](rows))
    del later
    assert kept() is None
