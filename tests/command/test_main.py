"""The command, as one calls it."""

import csv
import io
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mixnn_loader import LabelReport
from mixnn_loader.command import main as command
from mixnn_loader.command.images import files_of, for_timm, small_images
from mixnn_loader.command.main import main
from mixnn_loader.command.networks import from_timm
from mixnn_loader.command.samples import ImageFiles, read_samples
from mixnn_loader.command.training import train_and_report

COLORS = {"blue": (40, 40, 200), "green": (40, 200, 40), "red": (200, 40, 40)}
"""Classes that are told apart at a glance."""

NUM_OF_CLASS = 40


@pytest.fixture
def colors(tmp_path: Path) -> Path:
    """A folder of images, some of which are in the folder of another class: their names tell."""
    rng = np.random.default_rng(0)
    names = list(COLORS)
    for place, (name, color) in enumerate(COLORS.items()):
        for number in range(NUM_OF_CLASS):
            given = names[(place + 1) % 3] if number % 10 == 0 else name
            pixels = (np.array(color) + rng.normal(0, 30, (10, 12, 3))).clip(0, 255).astype(np.uint8)
            file = tmp_path / "images" / given / f"{name}-{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
    return tmp_path / "images"


def test_finds_images_in_the_wrong_folder(colors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (colors / "red" / "broken.png").touch()
    output = tmp_path / "output" / "here"
    status = main([str(colors), "--output", str(output), "--epochs", "10", "--batch-size", "16", "--size", "8"])
    assert status == 0
    printed = capsys.readouterr()
    assert "120 samples, 3 classes, training for 10 epochs" in printed.out
    assert re.search(
        r"About \d+ of 120 labels are expected to be wrong \(\d+ to \d+\), \d+ are worth a look", printed.out
    )
    assert "1 images cannot be read and are left out" in printed.err
    assert "red/broken.png" in (output / "unreadable.txt").read_text()
    assert len(re.findall(r"epoch \d+ of 10, +\d+ %, \d+ s, about \d+ s left", printed.err)) == 10

    with (output / "suspects.csv").open(newline="") as file:
        found = {row["path"]: row for row in csv.DictReader(file)}
    wrong = {f"{path.parent.name}/{path.name}" for path in colors.rglob("*-*.png") if path.parent.name not in path.name}
    assert len(wrong) == 12
    assert set(found) == wrong
    for path, row in found.items():
        assert row["given_class"] == path.split("/")[0]
        assert row["suggested_class"] == re.split("[/-]", path)[1]
    page = (output / "labels.html").read_text(encoding="utf-8")
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert {row["path"] for row in data["rows"][:12]} == wrong
    assert data["classes"] == sorted(COLORS)


def test_a_person_sees_of_images_with_sixteen_bits_what_the_network_sees(tmp_path: Path) -> None:
    for number in range(4):
        pixels = np.linspace(2000, 60_000, 32 * 32).reshape(32, 32).astype(np.uint16)
        file = tmp_path / "rays" / f"{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    samples = read_samples(tmp_path / "rays")
    data, _, shown = small_images(samples, 32, flip=False)
    seen = np.asarray(shown[0][0])
    assert seen.shape == (32, 32, 3)
    assert (int(seen.min()), int(seen.max())) == (7, 233)  # 255 / 65,535 of the pixels
    np.testing.assert_array_equal(seen, data.inputs[0].permute(1, 2, 0).numpy())


def test_images_that_cannot_be_read_have_no_part_in_the_normalization(colors: Path) -> None:
    expected = small_images(read_samples(colors), 8, flip=False)[1].transform
    for folder in colors.iterdir():
        for number in range(20):
            (folder / f"broken-{number}.png").write_bytes(b"no image")
    found: Any = small_images(read_samples(colors), 8, flip=False)[1].transform
    assert torch.equal(found.mean, expected.mean)
    assert torch.equal(found.std, expected.std)


def test_one_of_timms_networks_gets_images_as_it_was_made_for(colors: Path) -> None:
    samples = read_samples(colors)
    assert isinstance(samples, ImageFiles)
    for name, mean in (("test_vit", 0.5), ("test_byobnet", 0.485)):
        model = from_timm(name, 3, None, download=False)
        for data in for_timm(files_of(samples), model, None, flip=True):
            assert data[0][0].shape == (3, 160, 160)
            assert data.transform.transforms[-1].mean[0] == mean
        assert for_timm(files_of(samples), model, 32, flip=False)[1][0][0].shape == (3, 32, 32)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_names_that_the_terminal_does_not_have(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    features = np.eye(2)[np.where(np.arange(60) < 6, 1 - labels, labels)] + 0.1 * rng.normal(size=(60, 2))
    names = np.array(["\u732b", "\udcff"])
    np.savez(tmp_path / "features.npz", features=features, labels=labels, class_names=names)
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    assert main([str(tmp_path / "features.npz"), "--output", str(tmp_path), "--epochs", "4", "--batch-size", "16"]) == 0
    sys.stdout.flush()
    assert b"given as" in written.getvalue()


def test_neighbors_among_features_are_by_the_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 8)) * np.arange(1, 9) + 5
    np.savez(tmp_path / "features.npz", features=features, labels=np.arange(60) % 3)
    reports: list[LabelReport] = []

    def noted(*args: Any, **kwargs: Any) -> LabelReport:
        reports.append(train_and_report(*args, **kwargs))
        return reports[-1]

    monkeypatch.setattr(command, "train_and_report", noted)
    assert main([str(tmp_path / "features.npz"), "--output", str(tmp_path), "--epochs", "4", "--batch-size", "20"]) == 0
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    directions = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    likeness = directions @ directions.T
    np.fill_diagonal(likeness, -2)
    [report] = reports
    expected = np.argsort(-likeness, axis=1)[:, : report.neighbors.shape[1]]
    np.testing.assert_array_equal(report.neighbors, expected[report.indices])


def test_features_and_a_network_of_timm_s(colors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    true = np.arange(120) % 3
    features = 3 * np.eye(3)[true] + rng.normal(size=(120, 3))
    given = np.where(np.arange(120) % 10 == 0, (true + 1) % 3, true)
    np.savez(tmp_path / "features.npz", features=features, labels=given)
    assert main([str(tmp_path / "features.npz"), "--output", str(tmp_path), "--epochs", "8", "--batch-size", "16"]) == 0
    with (tmp_path / "suspects.csv").open(newline="") as file:
        rows = [int(row["index"]) for row in csv.DictReader(file)]
    assert len(set(rows) & set(range(0, 120, 10))) >= 10
    assert "index" in capsys.readouterr().out

    flags = ["--model", "test_resnet", "--size", "32", "--epochs", "2", "--batch-size", "60", "--output", str(tmp_path)]
    assert main([str(colors), *flags, "--flip"]) == 0
    assert "are worth a look" in capsys.readouterr().out


def test_few_samples_and_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "features.npz", features=np.eye(60), labels=np.arange(60) % 2)
    assert main([str(tmp_path / "features.npz"), "--output", str(tmp_path), "--epochs", "10"]) == 0
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        main([str(tmp_path / "features.npz"), "--output", str(tmp_path / "file"), "--epochs", "1000000"])
    assert "file" in capsys.readouterr().err


def test_weights_from_a_file(tmp_path: Path) -> None:
    file = str(tmp_path / "weights.pt")
    model = from_timm("test_resnet", 5, None, download=False)
    torch.save({"state_dict": model.state_dict()}, file)
    other = from_timm("test_resnet", 3, file, download=False)
    assert other.state_dict()["fc.weight"].shape[0] == 3
    kept = [name for name in other.state_dict() if not name.startswith("fc.")]
    assert all(torch.equal(other.state_dict()[name], model.state_dict()[name]) for name in kept)
    torch.save({}, file)
    with pytest.raises(ValueError, match=r"does not fit test_resnet: it lacks \d+ of its tensors, first conv1"):
        from_timm("test_resnet", 3, file, download=False)
    Path(file).write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"weights.pt holds no weights that can be read"):
        from_timm("test_resnet", 3, file, download=False)
    with pytest.raises(ValueError, match="timm has no model 'resnet1'"):
        from_timm("resnet1", 3, None, download=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a folder or a file, or --demo, and not both"),
        (["x", "--demo"], "give a folder or a file, or --demo, and not both"),
        (["nowhere"], "mixnn-labels: nowhere does not exist"),
        (["x", "--epochs", "0"], "argument --epochs: must be an integer >= 1, got 0"),
        (["x", "--weights", "w.pt"], "--weights and --download are of --model"),
        (["--demo", "--model", "resnet18"], "mixnn-labels: --model is for files of images"),
        (["--demo", "--flip"], "mixnn-labels: --flip is for files of images"),
        (["--demo", "--device", "abacus"], "'abacus' cannot be used"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_both_names_tell_what_they_take(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command = str(Path(sys.executable).parent / "mixnn-labels")
    of_the_command = subprocess.run([command, "--help"], capture_output=True, text=True, check=True).stdout
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["mixnn_loader.report", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("mixnn_loader.report", run_name="__main__")
    for told in (of_the_command, capsys.readouterr().out):
        assert "mixnn-labels" in told
        assert "--demo" in told
        assert "10% of them" in told
