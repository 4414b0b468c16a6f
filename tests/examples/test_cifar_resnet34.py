"""The CIFAR example: a smoke run, stopping and resuming it, images from a folder, and wrong usage."""

import csv
import importlib
import io
import json
import math
import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import resnet34

EXAMPLE = Path(__file__).parents[2] / "examples" / "cifar_resnet34.py"
CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

Call = Callable[..., str]
Capture = pytest.CaptureFixture[str]


class SmallNet(nn.Module):
    """In the place of a ResNet: what the example changes of one, BatchNorm, and a classifier."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(kernel_size=2)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes)."""
        logits: Tensor = self.fc(self.maxpool(self.bn1(self.conv1(images)).relu()).mean(dim=(2, 3)))
        return logits


@pytest.fixture(scope="module")
def call() -> Iterator[Call]:
    """Run the example on a small network, in this process, which has imported everything already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE.parent)
        patch.setattr(torch.backends.cudnn, "benchmark", False)
        example = importlib.import_module(EXAMPLE.stem)
        patch.setattr(example, "resnet34", SmallNet)

        def run(*flags: str | Path) -> str:
            """Return what was printed."""
            with torch.random.fork_rng(devices=[]), redirect_stdout(io.StringIO()) as printed:
                example.main([*map(str, flags), "--device", "cpu"])
            return printed.getvalue()

        yield run


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def result_of(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def checkpoint_of(folder: Path) -> Any:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


@pytest.fixture(scope="module")
def uninterrupted(call: Call, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A smoke run of four epochs and what it printed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, call("--smoke", "--output-dir", folder)


@pytest.fixture(scope="module")
def folder_of_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One training and one test image for each class of CIFAR-10."""
    root = tmp_path_factory.mktemp("images")
    for split in ("train", "test"):
        for shade, name in enumerate(CIFAR10_NAMES):
            (root / split / name).mkdir(parents=True)
            Image.new("RGB", (32, 32), (20 * shade, 0, 0)).save(root / split / name / "0001.png")
    return root


def usage_error(call: Call, capsys: Capture, *flags: str | Path) -> str:
    with pytest.raises(SystemExit) as stopped:
        call(*flags)
    assert stopped.value.code == 2
    return capsys.readouterr().err


# ------------------------------------------------------------------------------------------ running


def test_trains_a_resnet34(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module(EXAMPLE.stem), "resnet34", resnet34)
    call("--smoke", "--epochs", "1", "--warmup-epochs", "0", "--correction-epoch", "0", "--output-dir", tmp_path)
    assert [row["phase"] for row in log_of(tmp_path)] == ["correction"]
    assert all(math.isfinite(float(row["train_loss"])) for row in log_of(tmp_path))
    assert result_of(tmp_path)["metrics"]["last_epoch"]["epoch"] == 0
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in resnet34(num_classes=10).state_dict().items()}
    expected["conv1.weight"] = torch.Size([64, 3, 3, 3])
    assert {name: tensor.shape for name, tensor in checkpoint_of(tmp_path)["model"].items()} == expected
    # pytest keeps the folders of the last runs, and this is too much to keep.
    (tmp_path / "checkpoint.pt").unlink()


def test_smoke_run_goes_through_all_phases(uninterrupted: tuple[Path, str]) -> None:
    rows = log_of(uninterrupted[0])
    assert [row["phase"] for row in rows] == ["warm-up", "mixing", "correction", "correction"]
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["noise_rate_estimate"] == "" for row in rows] == [True, False, False, False]
    for row in rows:
        assert math.isfinite(float(row["train_loss"]))
        assert 0 <= float(row["test_accuracy"]) <= 1
        assert 0 <= float(row["mislabeled_train_accuracy"]) <= 1


def test_learning_rate_falls_along_a_cosine(uninterrupted: tuple[Path, str]) -> None:
    expected = [0.001 + (0.02 - 0.001) * (1 + math.cos(math.pi * epoch / 10)) / 2 for epoch in range(4)]
    assert [float(row["lr"]) for row in log_of(uninterrupted[0])] == pytest.approx(expected)


def test_before_correction_as_many_targets_are_right_as_labels(uninterrupted: tuple[Path, str]) -> None:
    folder, printed = uninterrupted
    rate = result_of(folder)["metrics"]["actual_noise_rate"]
    assert f"actual rate {rate:.4f}" in printed
    assert rate > 0
    for row in log_of(folder)[:2]:
        assert float(row["correction_accuracy"]) == pytest.approx(1 - rate)


def test_result_holds_arguments_versions_device_and_metrics(uninterrupted: tuple[Path, str]) -> None:
    folder, _ = uninterrupted
    result, rows = result_of(folder), log_of(folder)
    assert result["arguments"]["alpha"] == 0.9
    assert result["arguments"]["weight_decay"] == 1e-3
    assert result["arguments"]["warmup_epochs"] == 1
    assert result["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert result["device"]
    assert result["metrics"]["last_epoch"]["test_accuracy"] == float(rows[-1]["test_accuracy"])
    assert result["metrics"]["best_epoch"]["test_accuracy"] == max(float(row["test_accuracy"]) for row in rows)


def test_the_robust_recipe_is_a_method(call: Call, tmp_path: Path) -> None:
    call("--smoke", "--method", "robust", "--epochs", "3", "--output-dir", tmp_path)
    assert [row["phase"] for row in log_of(tmp_path)] == ["warm-up", "correction", "correction"]
    assert checkpoint_of(tmp_path)["loader"]["samples"]["averages"].sum() > 0, "kept for the early-learning term"


def test_resumed_run_equals_the_uninterrupted_one(call: Call, uninterrupted: tuple[Path, str], tmp_path: Path) -> None:
    call("--smoke", "--output-dir", tmp_path, "--epochs", "2")
    assert len(log_of(tmp_path)) == 2
    fill_disk(tmp_path / "checkpoint.tmp")
    with pytest.raises(OSError, match=f"^the checkpoint {tmp_path / 'checkpoint.pt'} could not"):
        call("--smoke", "--output-dir", tmp_path, "--resume")
    assert [row["epoch"] for row in checkpoint_of(tmp_path)["rows"]] == [0, 1]
    call("--smoke", "--output-dir", tmp_path, "--resume")

    whole, resumed = checkpoint_of(uninterrupted[0]), checkpoint_of(tmp_path)
    assert result_of(tmp_path)["metrics"] == result_of(uninterrupted[0])["metrics"]
    for row, other in zip(resumed["rows"], whole["rows"], strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    for name, tensor in whole["model"].items():
        assert torch.equal(resumed["model"][name], tensor), name
    for name in ("soft_targets", "log_clean_probability", "neighbor_pool"):
        assert torch.equal(resumed["loader"]["samples"][name], whole["loader"]["samples"][name]), name
    assert {file.name for file in tmp_path.iterdir()} == {"checkpoint.pt", "log.csv", "result.json"}


def test_cross_entropy_on_an_image_folder(call: Call, folder_of_images: Path, tmp_path: Path) -> None:
    flags = ["--image-folder", str(folder_of_images), "--method", "ce", "--noise", "asymmetric", "--noise-rate", "1"]
    flags += ["--batch-size", "4", "--bf16", "--channels-last", "--output-dir"]
    printed = call(*flags, tmp_path / "whole", "--epochs", "2")
    call(*flags, tmp_path / "resumed", "--epochs", "1")
    call(*flags, tmp_path / "resumed", "--epochs", "2", "--resume")

    # Five of the ten classes have a class that they are mistaken for.
    assert "actual rate 0.5000" in printed
    for row in log_of(tmp_path / "whole"):
        assert row["phase"] == "cross-entropy"
        assert row["correction_accuracy"] == row["noise_rate_estimate"] == ""
        assert row["mislabeled_train_accuracy"] != ""
    whole, resumed = (checkpoint_of(tmp_path / name)["model"] for name in ("whole", "resumed"))
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name


# -------------------------------------------------------------------------------------- a full disk


def fill_disk(file: Path) -> None:
    """Make every write to ``file`` fail as on a full disk, until it is removed."""
    if not Path("/dev/full").exists():
        pytest.skip("needs Linux's /dev/full")
    file.symlink_to("/dev/full")


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Make writes beyond ``num_bytes`` fail, so that a part of the file has been written."""
    resource = pytest.importorskip("resource", reason="needs POSIX")
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


@pytest.fixture
def save_over(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, dict[str, Any]], None]:
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    function: Callable[[Path, dict[str, Any]], None] = runpy.run_path(str(EXAMPLE.parent / "_training.py"))["save_over"]
    return function


LARGE = {"model": torch.ones(2**20)}  # 4 MiB


def test_a_new_checkpoint_takes_the_place_of_the_old_one(
    save_over: Callable[[Path, dict[str, Any]], None], tmp_path: Path
) -> None:
    for epoch in range(2):
        save_over(tmp_path / "checkpoint.pt", {"epoch": epoch})
        assert checkpoint_of(tmp_path) == {"epoch": epoch}
        assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize(("full", "reason"), [(True, "No space left on device"), (False, "File too large")])
@pytest.mark.parametrize("has_old", [True, False])
def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(
    save_over: Callable[[Path, dict[str, Any]], None], tmp_path: Path, full: bool, reason: str, has_old: bool
) -> None:
    file = tmp_path / "checkpoint.pt"
    if has_old:
        save_over(file, {"epoch": 7})
    if full:
        fill_disk(tmp_path / "checkpoint.tmp")
    remedy = "go on from it with --resume" if has_old else "start again"

    with largest_file(2**20), pytest.raises(OSError, match=f"{file} could not be written .*{reason}.*{remedy}"):
        save_over(file, LARGE)

    assert list(tmp_path.iterdir()) == ([file] if has_old else [])
    assert not has_old or checkpoint_of(tmp_path) == {"epoch": 7}
    save_over(file, LARGE)
    assert torch.equal(checkpoint_of(tmp_path)["model"], LARGE["model"])


def test_a_failed_write_that_torch_reports_its_own_way(
    save_over: Callable[[Path, dict[str, Any]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match=r"could not be written \(PytorchStreamWriter failed writing.*free some space"):
        save_over(tmp_path / "checkpoint.pt", LARGE)
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------- wrong usage


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give one of --data-dir, --image-folder and --smoke"),
        (["--smoke", "--data-dir", "."], "give one of --data-dir, --image-folder and --smoke"),
        (["--image-folder", ".", "--download"], "--download needs --data-dir"),
        (["--smoke", "--noise", "none", "--noise-rate", "0.2"], "--noise none has no --noise-rate, got 0.2"),
        (["--smoke", "--noise-rate", "1.5"], "rate must be a number in [0, 1], got 1.5"),
        (["--smoke", "--device", "abacus"], "'abacus' is no device"),
        (["--smoke", "--neighbors", "batch", "--neighbor-pool", "4"], "only neighbors='dataset' has a pool"),
        (
            ["--smoke", "--method", "robust", "--alpha", "0.5"],
            "--alpha is of --method mixnn, and this is --method robust",
        ),
        (["--smoke", "--method", "ce", "--neighbors", "batch"], "--neighbors is of --method mixnn"),
        (["--smoke", "--batch-size", "0"], "batch_size should be a positive integer"),
    ],
)
def test_wrong_flags(
    call: Call,
    capsys: Capture,
    tmp_path: Path,
    flags: list[str],
    message: str,
) -> None:
    assert message in usage_error(call, capsys, *flags, "--output-dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_data(call: Call, capsys: Capture, tmp_path: Path) -> None:
    assert "pass --download to fetch it" in usage_error(call, capsys, "--data-dir", tmp_path)
    assert f"{tmp_path / 'train'} does not exist" in usage_error(call, capsys, "--image-folder", tmp_path)


def test_image_folder_of_another_dataset(call: Call, capsys: Capture, folder_of_images: Path, tmp_path: Path) -> None:
    printed = usage_error(call, capsys, "--image-folder", folder_of_images, "--dataset", "cifar100")
    assert "--image-folder has 10 classes, --dataset cifar100 has 100" in printed
    for split in ("train", "test"):
        for name in "0123456789":
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(tmp_path / split / name / "0001.png")
    printed = usage_error(call, capsys, "--image-folder", tmp_path, "--noise", "asymmetric")
    assert "--noise asymmetric needs --image-folder to have the classes" in printed


def test_what_cannot_be_resumed(
    call: Call,
    capsys: Capture,
    uninterrupted: tuple[Path, str],
    folder_of_images: Path,
    tmp_path: Path,
) -> None:
    resume = ["--smoke", "--resume", "--output-dir"]
    assert f"--resume found no {tmp_path}" in usage_error(call, capsys, *resume, tmp_path)
    done = uninterrupted[0]
    printed = usage_error(call, capsys, *resume, done, "--epochs", "9", "--lr", "0.01")
    assert "--resume must keep --lr: it was 0.02 and is now 0.01" in printed
    assert "--resume found 4 epochs done; --epochs must be larger, got 4" in usage_error(call, capsys, *resume, done)
    printed = usage_error(call, capsys, "--image-folder", folder_of_images, "--output-dir", done)
    assert f"--output-dir {done} holds a run" in printed


@pytest.mark.parametrize(("text", "epoch"), [("-1", None), ("none", None), ("5", 5)])
def test_correction_epoch_may_be_never(monkeypatch: pytest.MonkeyPatch, text: str, epoch: int | None) -> None:
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    parser = runpy.run_path(str(EXAMPLE))["build_parser"]()
    assert parser.parse_args(["--correction-epoch", text]).correction_epoch == epoch
