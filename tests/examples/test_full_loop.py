"""The plain loop with everything: it runs, goes on where it stopped, and never loses a checkpoint."""

import errno
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "examples" / "full_loop.py"
ON_CPU = ("--device", "cpu")
RESULT = r"test accuracy (\d+\.\d)%\nlabels right, as given (\d+\.\d)%, after correction (\d+\.\d)%\n"

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


def call(*flags: str | Path) -> None:
    runpy.run_path(str(SCRIPT))["main"]([*map(str, flags), *ON_CPU])


def assert_equal(found: Any, expected: Any) -> None:
    """Compare what two checkpoints hold, bit by bit; of the history, what is not a time."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            if not str(key).endswith("seconds"):
                assert_equal(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    else:
        assert found == expected


def test_learns_and_corrects(capsys: Capture) -> None:
    call("--epochs", "8", "--dtype", "float32")
    found = re.search(RESULT, capsys.readouterr().out)
    assert found is not None
    accuracy, given, corrected = map(float, found.groups())
    assert accuracy > 75
    assert given == pytest.approx(60, abs=4)
    assert corrected > 75


def test_compiled(capsys: Capture) -> None:
    call("--epochs", "4", "--dtype", "float32", "--compile", "aot_eager")
    found = re.search(RESULT, capsys.readouterr().out)
    assert found is not None
    assert float(found.group(1)) > 60


def test_resumes_exactly(tmp_path: Path, capsys: Capture) -> None:
    whole, parts = tmp_path / "whole.pt", tmp_path / "parts.pt"
    in_thirds = ("--accumulate", "3", "--dtype", "float32")
    call("--epochs", "3", "--checkpoint", whole, *in_thirds)
    expected = capsys.readouterr().out.splitlines()
    call("--epochs", "2", "--checkpoint", parts, *in_thirds)
    capsys.readouterr()
    call("--epochs", "3", "--checkpoint", parts, *in_thirds, "--resume")
    assert capsys.readouterr().out.splitlines() == expected[2:], "a line an epoch, and the result"
    assert_equal(torch.load(parts, weights_only=True), torch.load(whole, weights_only=True))


@pytest.mark.parametrize(("dtype", "scales"), [("bfloat16", False), ("float16", True)])
def test_gradients_are_scaled_in_float16(dtype: str, scales: bool, tmp_path: Path) -> None:
    call("--epochs", "1", "--dtype", dtype, "--checkpoint", tmp_path / "digits.pt")
    assert ("scale" in torch.load(tmp_path / "digits.pt", weights_only=True)["scaler"]) == scales


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "digits.pt"
    call("--epochs", "2", "--dtype", "float32", "--checkpoint", file)
    before = file.read_bytes()

    def fails(_: Any, target: Path) -> None:
        target.write_bytes(before[: len(before) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(torch, "save", fails)
        with pytest.raises(OSError, match="No space left"):
            call("--epochs", "3", "--dtype", "float32", "--checkpoint", file, "--resume")
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    call("--epochs", "3", "--dtype", "float32", "--checkpoint", file, "--resume")
    assert torch.load(file, weights_only=True)["epoch"] == 3


@pytest.mark.parametrize("flags", [("--resume",), ("--resume", "--checkpoint", "nowhere.pt")])
def test_resume_needs_a_checkpoint(flags: tuple[str, ...], capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        call(*flags)
    assert "--resume needs --checkpoint, a file that exists" in capsys.readouterr().err


def test_a_checkpoint_needs_a_folder(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "none" / "digits.pt"
    with pytest.raises(SystemExit, match="2"):
        call("--checkpoint", file)
    output = capsys.readouterr()
    assert f"--checkpoint must be in a folder that exists, got {file}: make the folder first" in output.err
    assert output.out == ""


def test_tells_of_every_epoch(capsys: Capture) -> None:
    call("--epochs", "2", "--dtype", "float32")
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"epoch 0: warm-up, last loss \d\.\d{3}", lines[0])
    assert re.fullmatch(r"epoch 1: correction, last loss \d\.\d{3}", lines[1])
    assert len(lines) == 4


def test_help_describes_every_flag(capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="0"):
        call("--help")
    text = capsys.readouterr().out
    assert "of which 40 % have a wrong label" in text
    assert "%%" not in text
    assert "(default: 16)" in text
    flags_alone = re.findall(r"^  (--\S+(?: \S+)*)\n(?!   )", text, flags=re.MULTILINE)
    assert flags_alone == []
