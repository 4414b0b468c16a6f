"""The Lightning example: it runs, and goes on where it stopped."""

import random
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "examples" / "lightning_trainer.py"
ON_CPU = ("--accelerator", "cpu")
RESULT = r"test accuracy (\d+\.\d)%\nlabels right, as given (\d+\.\d)%, after correction (\d+\.\d)%\n"

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.* does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_random_numbers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example seeds everything there is, and says so to other processes."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])


def call(*flags: str | Path) -> None:
    runpy.run_path(str(SCRIPT))["main"]([*map(str, flags), *ON_CPU])


def checkpoint_of(folder: Path) -> Any:
    return torch.load(folder / "last.ckpt", weights_only=True)


def test_learns_and_corrects(tmp_path: Path, capsys: Capture) -> None:
    call("--epochs", "8", "--output-dir", tmp_path, "--precision", "bf16-mixed")
    found = re.search(RESULT, capsys.readouterr().out)
    assert found is not None
    accuracy, given, corrected = map(float, found.groups())
    assert accuracy > 75
    assert given == pytest.approx(60, abs=4)
    assert corrected > 75


@pytest.mark.parametrize("options", [(), ("--save-every", "10")])
def test_resumes_exactly(options: tuple[str, ...], tmp_path: Path, capsys: Capture) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    call("--epochs", "3", "--output-dir", whole, *options)
    expected = capsys.readouterr().out
    call("--epochs", "2", "--output-dir", parts, *options)  # with --save-every, the last is from within an epoch
    capsys.readouterr()
    call("--epochs", "3", "--output-dir", parts, "--resume", *options)
    assert capsys.readouterr().out == expected
    found, wanted = checkpoint_of(parts), checkpoint_of(whole)
    assert found["global_step"] == wanted["global_step"]
    assert all(torch.equal(found["state_dict"][name], value) for name, value in wanted["state_dict"].items())
    states = [state["callbacks"]["KeepLoader"]["samples"] for state in (found, wanted)]
    assert torch.equal(states[0]["soft_targets"], states[1]["soft_targets"])


def test_resume_needs_a_checkpoint(tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        call("--output-dir", tmp_path, "--resume")
    assert f"--resume found no last.ckpt in {tmp_path}" in capsys.readouterr().err


def test_help_describes_every_flag(capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="0"):
        call("--help")
    text = capsys.readouterr().out
    assert "of which 40 % have a wrong label" in text
    assert "%%" not in text
    assert "(default: 20)" in text
    flags_alone = re.findall(r"^  (--\S+(?: \S+)*)\n(?!   )", text, flags=re.MULTILINE)
    assert flags_alone == []
