"""The Accelerate example: it runs, goes on where it stopped, and never loses a checkpoint."""

import errno
import random
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.test_utils.testing import AccelerateTestCase
from safetensors.torch import load_file

SCRIPT = Path(__file__).parents[2] / "examples" / "accelerate_loop.py"
ON_CPU = ("--cpu",)
RESULT = r"test accuracy (\d+\.\d)%\nlabels right, as given (\d+\.\d)%, after correction (\d+\.\d)%\n"

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_random_numbers() -> Iterator[None]:
    """The example seeds everything there is."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])


def call(*flags: str | Path) -> None:
    try:
        runpy.run_path(str(SCRIPT))["main"]([*map(str, flags), *ON_CPU])
    finally:
        AccelerateTestCase().tearDown()  # Accelerate keeps its settings for the whole process


def checkpoint_of(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The model's weights and the loader's state."""
    latest = folder / (folder / "latest").read_text(encoding="utf-8")
    return load_file(latest / "model.safetensors"), torch.load(latest / "custom_checkpoint_0.pkl", weights_only=True)


def test_learns_and_corrects(tmp_path: Path, capsys: Capture) -> None:
    call("--epochs", "8", "--output-dir", tmp_path, "--mixed-precision", "bf16")
    found = re.search(RESULT, capsys.readouterr().out)
    assert found is not None
    accuracy, given, corrected = map(float, found.groups())
    assert accuracy > 75
    assert given == pytest.approx(60, abs=4)
    assert corrected > 75


def test_resumes_exactly(tmp_path: Path, capsys: Capture) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    call("--epochs", "3", "--output-dir", whole)
    expected = capsys.readouterr().out.splitlines()
    call("--epochs", "2", "--output-dir", parts)
    capsys.readouterr()
    call("--epochs", "3", "--output-dir", parts, "--resume")
    assert capsys.readouterr().out.splitlines() == expected[2:]
    (weights, state), (expected_weights, expected_state) = checkpoint_of(parts), checkpoint_of(whole)
    assert all(torch.equal(weights[name], value) for name, value in expected_weights.items())
    for name in ("soft_targets", "neighbor_pool", "given_labels"):
        assert torch.equal(state["samples"][name], expected_state["samples"][name])


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call("--epochs", "2", "--output-dir", tmp_path)

    def fails(_: Accelerator, folder: str) -> None:
        Path(folder).mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Accelerator, "save_state", fails)
        with pytest.raises(OSError, match="No space left"):
            call("--epochs", "3", "--output-dir", tmp_path, "--resume")
    assert len(checkpoint_of(tmp_path)[1]["history"]) == 2
    call("--epochs", "3", "--output-dir", tmp_path, "--resume")
    assert len(checkpoint_of(tmp_path)[1]["history"]) == 3
    assert [folder.name for folder in tmp_path.glob("epoch-*")] == ["epoch-3"]


def test_resume_needs_a_checkpoint(tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        call("--output-dir", tmp_path, "--resume")
    assert f"--resume found no checkpoint in {tmp_path}" in capsys.readouterr().err


def test_help_describes_every_flag(capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="0"):
        call("--help")
    text = capsys.readouterr().out
    assert "of which 40 % have a wrong label" in text
    assert "%%" not in text
    assert "(default: 20)" in text
    flags_alone = re.findall(r"^  (--\S+(?: \S+)*)\n(?!   )", text, flags=re.MULTILINE)
    assert flags_alone == []
