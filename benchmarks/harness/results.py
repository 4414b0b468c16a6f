"""A results file: one JSON line a run, appended as each is done."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Line = dict[str, Any]
"""What one run came to, see `benchmarks.harness.training.train_and_measure`."""


def read_results(paths: Path | Iterable[Path]) -> list[Line]:
    """Read results files; of a run that is in them twice, the later one counts.

    Raises:
        ValueError: a line is not a run's.
    """
    lines: dict[str, Line] = {}
    for path in [paths] if isinstance(paths, Path) else paths:
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not text.strip():
                continue
            try:
                line = json.loads(text)
                lines[line["key"]] = line
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number} is not a run's result") from error
    return list(lines.values())


def append_result(path: Path, line: Line) -> None:
    """Append one run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
