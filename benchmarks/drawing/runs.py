"""Runs as figures see them: named, and grouped."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from benchmarks.harness.lines import column_of, lookup, row_of
from benchmarks.harness.results import Line, read_results, samples_file
from benchmarks.harness.samples import Samples, read_samples

Array = npt.NDArray[np.float64]


class NothingToDrawError(ValueError):
    """There is no run that a figure can be of; the message says what runs it takes."""


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        line: its line in a results file.
        samples_file: where what is kept of single samples would be.
    """

    line: Line
    samples_file: Path

    @property
    def settings(self) -> dict[str, Any]:
        """What was run."""
        settings: dict[str, Any] = self.line["settings"]
        return settings

    @property
    def options(self) -> dict[str, Any]:
        """Of the method."""
        options: dict[str, Any] = self.settings["options"]
        return options

    @property
    def name(self) -> str:
        """The method with its options."""
        method, options = row_of(self.settings)
        return f"{method} ({options})" if options else method

    @property
    def training(self) -> str:
        """The dataset, and what was asked for of its training in place of what is usual."""
        asked = {"epochs": self.settings["epochs"], "samples": self.settings["num_train"]}
        changes = [f"{value} {name}" for name, value in asked.items() if value is not None]
        changes += [f"{name} {value}" for name, value in self.settings["recipe"].items()]
        return ", ".join([self.settings["dataset"], *changes])

    @property
    def noise(self) -> str:
        """The kind and rate of the noise."""
        return column_of(self.settings)

    @property
    def task(self) -> str:
        """What runs have to have in common to be compared: the dataset, how it is trained on, and its noise."""
        return f"{self.training}, {self.noise}"

    def curve(self, path: str) -> Array | None:
        """Return a measurement of every epoch by its path in an epoch's figures; None where an epoch has none."""
        values = [lookup(epoch, path) for epoch in self.line["epochs"]]
        known = [value for value in values if value is not None]
        return np.array(known) if len(known) == len(values) else None

    def samples(self) -> Samples | None:
        """Return what was kept of single samples; None: nothing was."""
        return read_samples(self.samples_file) if self.samples_file.exists() else None


Drawing = Callable[[Sequence[Run]], Figure]
"""``runs -> figure``; raises `NothingToDrawError` where no run is of use for it."""


def read_runs(paths: Iterable[Path]) -> list[Run]:
    """Read the runs of results files.

    Raises:
        OSError: a file cannot be read.
        ValueError: a line is not a run's.
    """
    runs = {line["key"]: Run(line, samples_file(path, line["key"])) for path in paths for line in read_results(path)}
    return list(runs.values())


def grouped(runs: Iterable[Run], key: Callable[[Run], str]) -> dict[str, list[Run]]:
    """Sort runs by what they have in common, in order of appearance."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def curves_by_name(runs: Iterable[Run], path: str) -> dict[str, Array]:
    """Return a measurement by epoch, (seeds, epochs), of every method that has it; runs cut to the shortest.

    Of a seed that was run with ``--watch-training`` and without, which come to the same, one counts.
    """
    found: dict[str, Array] = {}
    for name, members in grouped(runs, lambda run: run.name).items():
        of_seed = {run.settings["seed"]: curve for run in members if (curve := run.curve(path)) is not None}
        curves = list(of_seed.values())
        if curves:
            length = min(map(len, curves))
            found[name] = np.stack([curve[:length] for curve in curves])
    return found
