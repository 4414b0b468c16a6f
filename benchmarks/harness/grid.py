"""Many runs from one TOML file.

Top-level entries hold for all runs; each ``[[runs]]`` table adds its own. An entry of `RunSettings` may be a list: then
there is a run for each combination, of ``method``, ``rate``, ``seed`` and so on.

    dataset = "mnist"
    seed = [0, 1, 2]

    [[runs]]
    method = ["ce", "elr", "mixnn"]
    rate = [0.0, 0.4]

    [[runs]]
    method = "mixnn"
    options = [{ num_neighbors = 1 }, { num_neighbors = 3 }]
"""

import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.harness.settings import RunSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_grid(path: Path) -> list[RunSettings]:
    """Read the runs of a file, each once.

    Raises:
        ValueError: the file is not TOML, or has an entry that a run does not.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    shared = {name: value for name, value in tables.items() if name != "runs"}
    runs: dict[str, RunSettings] = {}
    for table in tables.get("runs", [{}]):
        for settings in _combinations(shared | table, path):
            runs.setdefault(settings.key, settings)
    return list(runs.values())


def _combinations(entries: Mapping[str, Any], path: Path) -> Iterator[RunSettings]:
    known = [field.name for field in fields(RunSettings)]
    if unknown := sorted(set(entries) - set(known)):
        raise ValueError(f"{path}: a run has no {', '.join(unknown)}; it has {', '.join(known)}")
    if missing := sorted({"method", "dataset"} - set(entries)):
        raise ValueError(f"{path}: a run has no {', '.join(missing)}")
    choices = [value if isinstance(value, list) else [value] for value in entries.values()]
    # The first entry varies slowest: with the seeds at the top of the file, every method gets its first one soonest.
    for values in itertools.product(*choices):
        yield RunSettings(**dict(zip(entries, values, strict=True)))
