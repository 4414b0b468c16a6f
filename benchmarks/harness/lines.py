"""What the line of a run says: where it belongs in a table or a figure, and its figures by their paths."""

from collections.abc import Mapping
from typing import Any

from benchmarks.harness.results import Line

ACCURACY = "figures.last.accuracy"
"""Path of the test accuracy in the last epoch."""

Row = tuple[str, str]
"""Method, and its options as text."""


def lookup(line: Line, path: str) -> float | None:
    """Return a figure by its path in a line; None where the run has none."""
    value: Any = line
    for key in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.lstrip("-").isdecimal() and -len(value) <= int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return float(value) if isinstance(value, int | float) else None


def row_of(settings: Mapping[str, Any]) -> Row:
    """Return the row of a run: what tells methods and their options apart."""
    return settings["method"], ", ".join(f"{name} {value}" for name, value in sorted(settings["options"].items()))


def column_of(settings: Mapping[str, Any]) -> str:
    """Return the column of a run: its noise."""
    if settings["noise"] == "given":
        return "given labels"
    return "clean" if settings["rate"] == 0 else f"{settings['noise']} {100 * settings['rate']:g}%"
