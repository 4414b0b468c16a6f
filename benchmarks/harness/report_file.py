"""What every benchmark's result file holds: the command, the machine, and the measurements."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.machine import describe_machine

RESULTS = Path(__file__).parents[1] / "results"


def write_json(path: Path, command: str, measurements: Sequence[dict[str, Any]], **about: Any) -> None:
    """Write measurements with what is needed to repeat them.

    Args:
        path: the JSON file.
        command: the command line that measured, with nothing in it that is only true of one machine.
        measurements: one dict of primitives a measurement.
        about: further entries for the head of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"command": command, "machine": describe_machine(), **about, "measurements": list(measurements)}
    path.write_text(json.dumps(report, indent=1) + "\n")


def caption(command: str) -> str:
    """Describe command and machine in a line, for the foot of a picture."""
    machine = describe_machine()
    processor = machine["processor"] if machine["gpu"] == "none" else f"{machine['gpu']}, {machine['processor']}"
    return f"{command}\n{processor}, torch {machine['torch']}, {machine['date']}"
