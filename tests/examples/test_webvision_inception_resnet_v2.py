"""The WebVision example: a smoke run, stopping and resuming it, and wrong usage."""

import csv
import json
import math
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "webvision_inception_resnet_v2.py"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
"""The smallest runs gain nothing from threads, and lose much where other tests run at the same time."""


def run(*flags: str | Path) -> None:
    command = [sys.executable, str(EXAMPLE), "--smoke", *map(str, flags), "--device", "cpu"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    assert finished.returncode == 0, finished.stderr


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def result_of(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The files of a smoke run of three epochs."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    run("--output-dir", folder)
    yield folder
    # pytest keeps the folders of the last runs, and half a gigabyte is too much to keep.
    (folder / "checkpoint.pt").unlink()


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], None]:
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    function: Callable[[Sequence[str]], None] = runpy.run_path(str(EXAMPLE))["main"]
    return function


def usage_error(main: Callable[[Sequence[str]], None], capsys: pytest.CaptureFixture[str], *flags: str | Path) -> str:
    with torch.random.fork_rng(), pytest.raises(SystemExit) as stopped:
        main([str(flag) for flag in flags])
    assert stopped.value.code == 2
    return capsys.readouterr().err


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


def test_resumed_run_equals_the_uninterrupted_one(uninterrupted: Path, tmp_path: Path) -> None:
    run("--output-dir", tmp_path, "--epochs", "1")
    run("--output-dir", tmp_path, "--resume")
    (tmp_path / "checkpoint.pt").unlink()
    assert log_of(tmp_path) == log_of(uninterrupted)
    assert result_of(tmp_path)["metrics"] == result_of(uninterrupted)["metrics"]


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
def test_wrong_flags(
    main: Callable[[Sequence[str]], None], capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert message in usage_error(main, capsys, *flags)


def test_missing_data(
    main: Callable[[Sequence[str]], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "info" / "train_filelist_google.txt"
    assert f"{missing} does not exist" in usage_error(main, capsys, "--data-dir", tmp_path)
