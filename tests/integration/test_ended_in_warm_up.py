"""A training that ends in warm-up is warned of, and the first epoch tells when warm-up will be over."""

import gc
import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader

shown = pytest.mark.filterwarnings("default:the training ended", "default:epoch .* comes after")
ENDED = r"the training ended in warm-up, after \d epoch\(s\): .*epochs=, or set warmup_epochs="


@pytest.fixture(autouse=True)
def no_error_of_an_earlier_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys, "last_value", raising=False)  # pytest leaves it there


def own_loss(logits: Tensor, targets: Tensor) -> Any:
    return -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()


def trained(passes: int, **arguments: Any) -> MixNNDataLoader:
    torch.manual_seed(0)
    model = mlp()
    loader = MixNNDataLoader(DataLoader(Points(), 10), model, **({"warmup_epochs": 2} | arguments))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(passes):
        for batch in loader:
            loss = own_loss(model(batch.inputs), batch.targets.mixed)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loader


@shown
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_loader_that_goes_in_warm_up(epochs: int) -> None:
    loader = trained(epochs)
    with pytest.warns(UserWarning, match=ENDED):
        del loader


@shown
def test_a_loader_that_is_built_anew_for_every_epoch() -> None:
    loaders = (trained(1) for _ in range(3))
    with pytest.warns(UserWarning, match="one that is built anew for every epoch is always at its start"):
        next(loaders)


@shown
def test_what_has_mixed_or_trained_nothing_goes_silently() -> None:
    gc.collect()  # what other tests have left
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loader in (trained(3, correction_epoch=2), trained(0), trained(1, warmup_epochs=0, correction_epoch=None)):
            del loader
        looked_at = trained(0)
        with torch.no_grad():
            list(looked_at)
        next(iter(looked_at))
        del looked_at
        loader = trained(1)
        loader.reset()
        del loader
        gc.collect()


@shown
def test_a_training_that_is_over_before_any_label_is_corrected() -> None:
    loader = trained(3)
    with pytest.warns(
        UserWarning, match=r"after epoch 2, and no label has been corrected: .* epoch 60\. Tell .*epochs="
    ):
        del loader


@shown
@pytest.mark.parametrize(
    ("arguments", "epoch", "message"),
    [
        (
            {"correction_epoch": None},
            2,
            r"epoch 2 comes after warm-up \(epochs 0 to 1\), and none of these has been trained for",
        ),
        ({"correction_epoch": None}, 7, "epoch 7 comes after warm-up"),
        ({"epochs": 4}, 4, "epoch 4 comes after warm-up"),
        ({"epochs": 4, "warmup_epochs": 0}, 4, r"epoch 4 comes after the training's end, epochs=4"),
    ],
)
def test_an_epoch_that_does_not_go_with_what_was_trained(arguments: dict[str, Any], epoch: int, message: str) -> None:
    loader = trained(0, **arguments)
    loader.set_epoch(epoch)
    with pytest.warns(UserWarning, match=message):
        list(loader)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="epoch .* comes after")
        list(loader)


@shown
def test_epochs_in_their_order_are_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="epoch .* comes after")
        loader = trained(4, epochs=4)
        restored = trained(0, epochs=4)
        loader.set_epoch(3)
        restored.load_state_dict(loader.state_dict())
        list(restored)
        at_once = trained(0, warmup_epochs=0, correction_epoch=None)
        at_once.set_epoch(5)
        list(at_once)


@shown
def test_the_interpreter_ends_in_warm_up() -> None:
    code = "from test_ended_in_warm_up import trained; loader = trained(1)"
    here = Path(__file__).parent
    paths = f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]; "
    finished = subprocess.run(
        [sys.executable, "-c", paths + code], capture_output=True, text=True, check=True, timeout=120
    )
    assert finished.stderr.count("the training ended in warm-up, after 1 epoch(s)") == 1


def test_an_error_that_ends_the_program_is_what_is_told_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "last_value", KeyError("x"), raising=False)

    def train_and_end() -> None:
        trained(1)
        gc.collect()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_and_end()
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)  # of an interactive session, an earlier error ended nothing
    with pytest.warns(UserWarning, match=ENDED):
        train_and_end()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            {"warmup_epochs": "auto"},
            r"before epoch 10 .* moved from epoch 60 on .*paper's 300 epochs.*pass epochs=",
        ),
        ({"warmup_epochs": 1}, r"ends before epoch 1 .* moved from epoch 60 on"),
        ({"warmup_epochs": "auto", "correction_epoch": None}, r"ends before epoch 10 .* moved never"),
        (
            {"warmup_epochs": "auto", "epochs": 60},
            r"ends before epoch 2 .* moved from epoch 12 on .* from epochs=60",
        ),
        ({"warmup_epochs": 1, "correction_epoch": 2}, None),
    ],
)
def test_the_first_epoch_tells_the_schedule(
    arguments: dict[str, Any], told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="mixnn_loader")
    loader = trained(0, **arguments)
    assert "warm-up ends before" not in caplog.text
    list(loader)
    list(loader)
    lines = [record.getMessage() for record in caplog.records if "warm-up ends before" in record.getMessage()]
    assert len(lines) == (told is not None)
    if told is not None:
        assert re.search(told, lines[0])
