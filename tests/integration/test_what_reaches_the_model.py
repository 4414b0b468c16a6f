"""What the loop does to a batch before the model is found out in the first step, or told with ``prepare=``."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from toy import NUM_CLASSES, Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss

REMEDIES = r"in the first training step, .*dataset's transform or into the model, or pass the same function as prepare="
LOSSES: dict[str, Any] = {
    "MixNNLoss": MixNNLoss(),
    "own": lambda logits, targets: -(targets.mixed * logits.log_softmax(dim=1)).sum(dim=1).mean(),
}
CASES = pytest.mark.parametrize("loss", LOSSES)
WARMUP = pytest.mark.parametrize("warmup_epochs", [0, 2])


class Images(nn.Module):
    """Takes images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, NUM_CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(inputs.to(self.conv.weight.dtype)).mean(dim=(2, 3)))
        return logits


def images() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.rand(12, 3, 8, 8, generator=generator), torch.arange(12) % NUM_CLASSES)


def train(loader: MixNNDataLoader, model: nn.Module, to_model: Callable[[Any], Any], loss: str = "MixNNLoss") -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in loader:
        value = LOSSES[loss](to_model(batch.inputs), batch.targets)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


@CASES
@WARMUP
@pytest.mark.parametrize(
    "change",
    [
        lambda x: (x - 0.5) / 0.25,
        lambda x: x / 255,
        lambda x: x[:, :, 1:7, 1:7],
        lambda x: x.mul_(2),
        lambda x: x.flip(3),
    ],
    ids=["normalize", "scale", "crop", "in place", "flip"],
)
def test_a_change_in_the_loop_is_warned_of_once(change: Any, warmup_epochs: int, loss: str) -> None:
    model = Images()
    loader = MixNNDataLoader(images(), model, batch_size=4, warmup_epochs=warmup_epochs)

    def three_epochs() -> None:
        for _ in range(3):
            train(loader, model, lambda inputs: model(change(inputs)), loss)

    with pytest.warns(UserWarning, match=REMEDIES) as caught:
        three_epochs()
    assert len(caught) == 1
    assert not vars(model)["_forward_pre_hooks"]


def in_micro_batches(model: Any) -> Callable[[Tensor], Any]:
    return lambda inputs: torch.cat([model(part) for part in torch.split(inputs, 2)])


def under_autocast(model: Any) -> Callable[[Tensor], Any]:
    def call(inputs: Tensor) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(inputs)

    return call


SAME: dict[str, Any] = {
    "as they are": lambda model: model,
    "half": lambda model: lambda inputs: model(inputs.half()),
    "bfloat16": lambda model: lambda inputs: model(inputs.bfloat16()),
    "channels last": lambda model: lambda inputs: model(inputs.contiguous(memory_format=torch.channels_last)),
    "to": lambda model: lambda inputs: model(inputs.to("cpu", copy=True)),
    "micro-batches": in_micro_batches,
    "no-op": lambda model: lambda inputs: model(inputs.mul_(1).add_(0)),
    "autocast": under_autocast,
    "by name": lambda model: lambda inputs: model(inputs=inputs),
}


@CASES
@WARMUP
@pytest.mark.parametrize("name", SAME)
def test_what_changes_nothing_is_not_warned_of(name: str, warmup_epochs: int, loss: str) -> None:
    model = Images()
    loader = MixNNDataLoader(images(), model, batch_size=4, warmup_epochs=warmup_epochs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            train(loader, model, SAME[name](model), loss)
    assert not vars(model)["_forward_pre_hooks"]


def test_a_dictionary_of_inputs() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, inputs: dict[str, Tensor]) -> Any:
            return self.net(inputs["points"])

    model = Both()
    samples: Any = [({"points": points}, label) for points, label in (Points()[index] for index in range(40))]
    loader = MixNNDataLoader(samples, model, batch_size=10, warmup_epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(loader, model, model)
    fresh = MixNNDataLoader(samples, model, batch_size=10, warmup_epochs=1)
    with pytest.warns(UserWarning, match=REMEDIES):
        train(fresh, model, lambda inputs: model({"points": inputs["points"] / 2}))


def test_a_loop_that_fetches_a_batch_ahead_is_watched_too() -> None:
    model = Images()
    loader = MixNNDataLoader(images(), model, batch_size=4, warmup_epochs=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def ahead() -> None:
        batches = iter(loader)
        batch = next(batches, None)
        while batch is not None:
            following = next(batches, None)
            MixNNLoss()(model(batch.inputs / 255), batch).backward()
            optimizer.step()
            batch = following

    with pytest.warns(UserWarning, match=REMEDIES):
        ahead()
    assert not vars(model)["_forward_pre_hooks"]


def labels_right(prepare: Any) -> float:
    """Train on inputs up to 255 that the loop divides; return the share of corrected labels that are right."""
    points = Points(120)
    low, high = points.inputs.min(), points.inputs.max()
    points.inputs = 255 * (points.inputs - low) / (high - low)
    torch.manual_seed(0)
    model = mlp()
    loader = MixNNDataLoader(
        DataLoader(points, 20, shuffle=True), model, warmup_epochs=8, correction_epoch=8, momentum=0.5, prepare=prepare
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(20):
        for batch in loader:
            loss = MixNNLoss()(model(batch.inputs / 255), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return float((loader.soft_targets.argmax(dim=1) == points.true_labels).float().mean())


@pytest.mark.filterwarnings("ignore:in the first training step", "ignore:half of the losses")
def test_with_prepare_the_loader_sees_what_the_training_sees() -> None:
    without, with_it = labels_right(None), labels_right(lambda inputs: inputs / 255)
    assert with_it > 0.9
    assert with_it > without + 0.15
