"""What a bug report needs is told by a command."""

import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from benchmarks.harness.toml_files import read_toml
from mixnn_loader.command import environment

PROJECT = Path(__file__).parent.parent.parent / "pyproject.toml"


def test_versions_and_devices_are_told() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "mixnn_loader"], capture_output=True, text=True, check=True, timeout=120
    )
    lines = finished.stdout.splitlines()
    assert lines[0] == f"mixnn_loader {version('mixnn_loader')}"
    assert lines[1].startswith(f"Python {platform.python_version()} on ")
    assert f"torch {version('torch')}" in lines
    assert f"nmslib {version('nmslib')}" in lines
    assert ("no accelerator" in lines) == (not torch.cuda.is_available() and not torch.backends.mps.is_available())


def test_it_takes_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        environment.main(["photos/"])
    assert "unrecognized arguments: photos/" in capsys.readouterr().err


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("torch", "no-such-package"))
    assert "no-such-package is not installed" in environment.environment()


def test_everything_that_the_package_needs_is_asked_for() -> None:
    project = read_toml(PROJECT)["project"]
    needed = [*project["dependencies"], *(project["optional-dependencies"][name] for name in ("viz", "report", "timm"))]
    flat = [line for entry in needed for line in ([entry] if isinstance(entry, str) else entry)]
    assert {line.split(">")[0] for line in flat} <= set(environment.PACKAGES)
