"""The WebVision example: a smoke run, stopping and resuming it, and wrong usage."""

import csv
import importlib
import io
import json
import math
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

EXAMPLE = Path(__file__).parents[2] / "examples" / "webvision_inception_resnet_v2.py"

Call = Callable[..., None]
Capture = pytest.CaptureFixture[str]


class SmallNet(nn.Module):
    """In the place of InceptionResNetV2: convolution, BatchNorm, and a classifier that is found as timm's are."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, kernel_size=3, stride=4, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.classif = nn.Linear(16, num_classes)

    def get_classifier(self) -> nn.Linear:
        """The classifier."""
        return self.classif

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes)."""
        logits: Tensor = self.classif(self.body(images).mean(dim=(2, 3)))
        return logits


def create_small(name: str, num_classes: int) -> SmallNet:
    """Take the place of ``timm.create_model``."""
    assert name == "inception_resnet_v2"
    return SmallNet(num_classes)


@pytest.fixture(scope="module")
def call() -> Iterator[Call]:
    """Run the example on a small network, in this process, which has imported everything already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE.parent)
        patch.setattr(torch.backends.cudnn, "benchmark", False)
        example = importlib.import_module(EXAMPLE.stem)
        patch.setattr(example, "timm", SimpleNamespace(create_model=create_small))

        def run(*flags: str | Path) -> None:
            with torch.random.fork_rng(devices=[]), redirect_stdout(io.StringIO()):
                example.main([*map(str, flags), "--device", "cpu"])

        yield run


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def result_of(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def weights_of(folder: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(folder / "checkpoint.pt", weights_only=True, mmap=True)["model"]
    return weights


@pytest.fixture(scope="module")
def uninterrupted(call: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a smoke run of three epochs."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    call("--smoke", "--output-dir", folder)
    return folder


def usage_error(call: Call, capsys: Capture, *flags: str | Path) -> str:
    with pytest.raises(SystemExit) as stopped:
        call(*flags)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_trains_an_inception_resnet_v2(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module(EXAMPLE.stem), "timm", timm)
    call("--smoke", "--epochs", "1", "--warmup-epochs", "0", "--correction-epoch", "0", "--output-dir", tmp_path)
    assert [row["phase"] for row in log_of(tmp_path)] == ["correction"]
    assert all(math.isfinite(float(row["train_loss"])) for row in log_of(tmp_path))
    assert result_of(tmp_path)["metrics"]["last_epoch"]["epoch"] == 0
    assert weights_of(tmp_path)["classif.weight"].shape == (50, 1536)
    # pytest keeps the folders of the last runs, and half a gigabyte is too much to keep.
    (tmp_path / "checkpoint.pt").unlink()


def test_smoke_run_measures_both_validation_sets(uninterrupted: Path) -> None:
    rows = log_of(uninterrupted)
    assert [row["phase"] for row in rows] == ["warm-up", "mixing", "correction"]
    for row in rows:
        assert math.isfinite(float(row["train_loss"]))
        assert float(row["lr"]) == 0.02
        for name in ("webvision", "ilsvrc"):
            assert 0 <= float(row[f"{name}_top1"]) <= float(row[f"{name}_top5"]) <= 1


def test_result_holds_arguments_versions_device_and_metrics(uninterrupted: Path) -> None:
    result, rows = result_of(uninterrupted), log_of(uninterrupted)
    assert result["arguments"]["lr_steps"] == [50]
    assert set(result["versions"]) == {"python", "torch", "torchvision", "timm", "mixnn_loader"}
    assert result["device"]
    last = result["metrics"]["last_epoch"]
    assert {name: "" if value is None else str(value) for name, value in last.items()} == rows[-1]


def test_resumed_run_equals_the_uninterrupted_one(call: Call, uninterrupted: Path, tmp_path: Path) -> None:
    call("--smoke", "--output-dir", tmp_path, "--epochs", "1")
    call("--smoke", "--output-dir", tmp_path, "--resume")
    assert log_of(tmp_path) == log_of(uninterrupted)
    assert result_of(tmp_path)["metrics"] == result_of(uninterrupted)["metrics"]
    expected = weights_of(uninterrupted)
    for name, tensor in weights_of(tmp_path).items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give one of --data-dir and --smoke"),
        (["--smoke", "--data-dir", "."], "give one of --data-dir and --smoke"),
        (["--smoke", "--ilsvrc-dir", "."], "--ilsvrc-dir does not go with it"),
        (["--data-dir", ".", "--ilsvrc-synsets", "x"], "--ilsvrc-synsets needs --ilsvrc-dir"),
        (["--smoke", "--crop-size", "99"], "--crop-size must be at most --resize, got 99 and 88"),
    ],
)
def test_wrong_flags(call: Call, capsys: Capture, flags: list[str], message: str) -> None:
    assert message in usage_error(call, capsys, *flags)


def test_missing_data(call: Call, capsys: Capture, tmp_path: Path) -> None:
    missing = tmp_path / "info" / "train_filelist_google.txt"
    assert f"{missing} does not exist" in usage_error(call, capsys, "--data-dir", tmp_path)
