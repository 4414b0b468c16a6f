"""A results file: one JSON line a run, appended as each is done."""

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Line = dict[str, Any]
"""What one run came to, see `benchmarks.harness.training.train_and_measure`."""


def read_results(paths: Path | Iterable[Path]) -> list[Line]:
    """Read results files; of a run that is in them twice, the later one counts.

    A last line that is broken off is what a process that was killed had written so far; it is passed over.

    Raises:
        ValueError: a line is not a run's.
    """
    lines: dict[str, Line] = {}
    for path in [paths] if isinstance(paths, Path) else paths:
        *whole, last = path.read_text(encoding="utf-8", errors="replace").split("\n")
        for number, text in enumerate(whole, start=1):
            if text.strip():
                line = _as_run(text)
                if line is None:
                    raise ValueError(f"{path}, line {number} is not a run's result")
                lines[line["key"]] = line
        if (line := _as_run(last)) is not None:
            lines[line["key"]] = line
    return list(lines.values())


def append_result(path: Path, line: Line) -> None:
    """Append one run, in the place of a last line that is broken off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        # What another process has written half of is no line that is broken off.
        fcntl.flock(file, fcntl.LOCK_EX)
        if end := file.seek(0, os.SEEK_END):
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.seek(0)
                content = file.read()
                start = content.rfind(b"\n") + 1
                if _as_run(content[start:].decode(errors="replace")) is None:
                    file.truncate(start)
                else:
                    file.write(b"\n")
        file.write(json.dumps(line).encode() + b"\n")


def checkpoint_file(results: Path, key: str) -> Path:
    """Return where a run with this key keeps its state until its line is in the results file."""
    return results.with_suffix(".checkpoints") / f"{key}.pt"


def samples_file(results: Path, key: str) -> Path:
    """Return where a run with this key keeps what figures need of single samples, beside its results file."""
    return results.with_suffix(".samples") / f"{key}.npz"


def _as_run(text: str) -> Line | None:
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return None
    return line if isinstance(line, dict) and "key" in line and "settings" in line else None
