"""Many runs from one TOML file.

Top-level entries hold for all runs that have none of their own; each ``[[runs]]`` table adds its own. An entry of
`RunSettings` may be a list: then there is a run for each combination, of ``method``, ``rate``, ``seed`` and so on.

    dataset = "mnist"
    seed = [0, 1, 2]

    [[runs]]
    method = ["ce", "elr", "mixnn"]
    rate = [0.0, 0.4]

    [[runs]]
    method = "mixnn"
    options = [{ num_neighbors = 1 }, { num_neighbors = 3 }, { correction_epoch = "none" }]

TOML has no word for None: ``"none"`` in ``options`` and ``recipe`` stands for it. The method ``"all"`` stands for every
method that there is.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.harness.settings import RunSettings, SettingError
from benchmarks.harness.toml_files import read_toml, with_none


def read_grid(path: Path) -> list[RunSettings]:
    """Read the runs of a file, each once.

    Raises:
        ValueError: the file is not TOML, has no runs, or has an entry or a value that a run cannot have.
    """
    tables = read_toml(path)
    shared = {name: value for name, value in tables.items() if name != "runs"}
    own = tables.get("runs", [{}])
    if not isinstance(own, list) or not all(isinstance(table, dict) for table in own):
        raise ValueError(f"{path}: runs must be tables, each headed [[runs]]")
    runs: dict[str, RunSettings] = {}
    for table in own:
        for settings in _combinations(shared | table, path):
            runs.setdefault(settings.key, settings)
    if not runs:
        raise ValueError(f"{path} has no runs")
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
        run = dict(zip(entries, values, strict=True))
        for name in {"options", "recipe"} & set(run):
            if isinstance(run[name], dict):
                run[name] = with_none(run[name])
        try:
            yield RunSettings(**run)
        except SettingError as error:
            raise ValueError(f"{path}: {error}") from error
