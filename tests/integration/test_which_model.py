"""The model that the loader looks at is the one that is trained; where it is not, one warning says so."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from toy import MLP, NUM_CLASSES, Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss

pytestmark = pytest.mark.filterwarnings("default:the model's parameters have not changed")
UNCHANGED = r"parameters have not changed over epoch \d: .*loader\.reset\(model\)"


def train(
    loader: MixNNDataLoader, model: nn.Module, epochs: int = 1, rate: Callable[[int], float] = lambda _: 0.1
) -> None:
    """Train, at a learning rate by step."""
    step = 0
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(epochs):
        for batch in loader:
            optimizer.param_groups[0]["lr"] = rate(step)
            loss = MixNNLoss()(model(batch.inputs), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1


def build(model: nn.Module, **arguments: Any) -> MixNNDataLoader:
    torch.manual_seed(0)
    return MixNNDataLoader(DataLoader(Points(), 10, shuffle=True), model, **({"warmup_epochs": 1} | arguments))


def next_fold() -> tuple[nn.Module, nn.Module]:
    return mlp(), mlp(seed=1)


def a_copy() -> tuple[nn.Module, nn.Module]:
    model = mlp()
    return model, copy.deepcopy(model)


def reloaded() -> tuple[nn.Module, nn.Module]:
    model, new = mlp(), mlp(seed=1)
    new.load_state_dict(model.state_dict())
    return model, new


@pytest.mark.parametrize("pair", [next_fold, a_copy, reloaded])
@pytest.mark.parametrize("epochs_before", [0, 3])
def test_another_model_is_warned_of_once(pair: Any, epochs_before: int) -> None:
    bound, trained = pair()
    loader = build(bound)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(loader, bound, epochs_before)
    with pytest.warns(UserWarning, match=UNCHANGED) as caught:
        train(loader, trained)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(loader, trained, 2)
    assert len(caught) == 1
    assert loader.epoch == epochs_before + 3


def test_an_optimizer_of_another_model_is_warned_of_in_the_second_epoch() -> None:
    model = mlp()
    loader = build(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(loader, model, 1, rate=lambda _: 0.0)
    with pytest.warns(UserWarning, match=UNCHANGED):
        train(loader, model, 1, rate=lambda _: 0.0)


def frozen_backbone() -> tuple[nn.Module, nn.Module]:
    model = mlp()
    model.body.requires_grad_(requires_grad=False)
    return model, model


def compiled() -> tuple[nn.Module, nn.Module]:
    model: Any = torch.compile(mlp(), backend="eager")
    return model, model


def inside_of_compiled() -> tuple[nn.Module, nn.Module]:
    model = mlp()
    wrapper: Any = torch.compile(model, backend="eager")
    return model, wrapper


def in_replicas() -> tuple[nn.Module, nn.Module]:
    model = mlp()
    return model, nn.DataParallel(model)


@pytest.mark.parametrize("pair", [frozen_backbone, compiled, inside_of_compiled, in_replicas])
@pytest.mark.parametrize("rate", [lambda _: 0.1, lambda step: 0.1 * (step >= 4)])
def test_a_model_that_is_trained_is_not_warned_of(pair: Any, rate: Any) -> None:
    bound, called = pair()
    if pair is inside_of_compiled and rate(3) == 0:
        return  # its calls are not seen: to the loader it is a model that is neither called nor changed
    loader = build(bound)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(loader, called, 3, rate)
    assert loader.epoch == 3


def test_an_average_is_not_warned_of() -> None:
    model = mlp()
    average = AveragedModel(model)
    loader = build(average)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            for batch in loader:
                MixNNLoss()(model(batch.inputs), batch).backward()
                optimizer.step()
                optimizer.zero_grad()
                average.update_parameters(model)
    assert loader.epoch == 3


@pytest.mark.parametrize("every", [2, 3, 4])
def test_accumulated_gradients_are_not_warned_of(every: int) -> None:
    model = mlp()
    loader = build(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            for number, batch in enumerate(loader, start=1):
                MixNNLoss()(model(batch.inputs), batch).backward()
                if number % every == 0:
                    optimizer.step()
                    optimizer.zero_grad()


@pytest.mark.parametrize("with_model", [False, True])
def test_reset_starts_afresh(with_model: bool) -> None:
    model, other = mlp(), mlp(seed=1)
    loader = build(model, correction_epoch=2, num_classes=NUM_CLASSES)
    train(loader, model, 4)
    if with_model:
        loader.reset(other)
    else:
        loader.reset()
    assert (loader.epoch, loader.batch, loader.history) == (0, 0, [])
    assert bool((loader.given_labels == -1).all())
    assert bool(loader.losses.isnan().all())
    assert bool(loader.clean_probability.isnan().all())
    assert bool((loader.soft_targets == 0).all())
    fresh = build(other if with_model else model, correction_epoch=2)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained: MLP = other if with_model else model
        start = copy.deepcopy(trained.state_dict())
        train(loader, trained, 4)
        trained.load_state_dict(start)
        torch.manual_seed(0)
        train(fresh, trained, 4)
    assert [record["phase"][0] for record in loader.history] == list("wmcc")
    assert torch.equal(loader.soft_targets, fresh.soft_targets)


def test_a_feature_layer_of_the_old_model_is_refused_by_name() -> None:
    model = mlp()
    loader = build(model, feature_layer=model.head)
    with pytest.raises(ValueError, match="feature_layer"):
        loader.reset(mlp(seed=1))
    train(loader, model)  # and nothing has happened
    loader.reset()
    build(model, feature_layer="head").reset(mlp(seed=1))
