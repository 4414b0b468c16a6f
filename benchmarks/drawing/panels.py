"""A figure with a panel for every task, and what all panels have in common."""

import math
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.drawing.runs import Array, Run

COLUMNS, PAIRED = 3, 4
"""Panels side by side; where they come in pairs, an even number, so that pairs stay together."""

MOST_INSIDE = 5
"""Lines that a legend within its panel has room for; that of more stands beside it."""

STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v")


def panels(
    titles: Sequence[str], runs: Sequence[Run], size: tuple[float, float] = (4.5, 3.6), columns: int = COLUMNS
) -> list[Axes]:
    """Make a figure with a panel a title; its foot says what runs it is of.

    Args:
        titles: of the panels.
        runs: that the figure is of.
        size: width and height of a panel in inches.
        columns: panels side by side at most.
    """
    columns = min(columns, len(titles))
    rows = math.ceil(len(titles) / columns)
    figure = Figure(figsize=(columns * size[0], rows * size[1] + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for unused in axes[len(titles) :]:
        unused.remove()
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title)
    figure.supxlabel(about(runs), fontsize="x-small")
    return list(axes[: len(titles)])


def about(runs: Sequence[Run]) -> str:
    """Say in a line how many runs there are, how long, and on which machines they were made."""
    machines = {}
    for run in runs:
        machine = run.line["machine"]
        processor = machine["processor"] if machine["gpu"] == "none" else machine["gpu"]
        machines[f"{processor}, torch {machine['torch']}"] = machine["date"]
    seeds = " ".join(map(str, sorted({run.settings["seed"] for run in runs})))
    lengths = " or ".join(map(str, sorted({run.line["recipe"]["epochs"] for run in runs})))
    count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
    where = "; ".join(f"{machine}, {date}" for machine, date in machines.items())
    return f"{count} of {lengths} epochs, seeds {seeds}; {where}"


def figure_of(axes: Sequence[Axes]) -> Figure:
    """Return the figure that panels are in."""
    figure = axes[0].figure
    assert isinstance(figure, Figure)
    return figure


def draw_mean_curves(ax: Axes, curves: dict[str, Array], names: Sequence[str]) -> None:
    """Draw means over the seeds by epoch, and the range over the seeds as a shade.

    Args:
        ax: where to.
        curves: name -> (seeds, epochs).
        names: of all panels' curves: a name looks the same in each of them.
    """
    for name, values in curves.items():
        index, epochs = names.index(name), np.arange(values.shape[1])
        ax.plot(epochs, values.mean(axis=0), STYLES[index % len(STYLES)], color=f"C{index}", label=name)
        if len(values) > 1:
            ax.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=f"C{index}", alpha=0.2, linewidth=0)
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)


def draw_points(ax: Axes, points: dict[str, dict[float, list[float]]]) -> None:
    """Draw means over the seeds by a setting's value, and the range over the seeds as bars.

    Args:
        ax: where to.
        points: name -> value of the setting -> measurements of the seeds.
    """
    for index, ((name, values), marker) in enumerate(zip(points.items(), cycle(MARKERS), strict=False)):
        places = np.array(sorted(values), dtype=float)
        means = np.array([np.mean(values[place]) for place in places])
        ranges = np.array(
            [[mean - min(values[place]), max(values[place]) - mean] for place, mean in zip(places, means, strict=True)]
        )
        ax.errorbar(places, means, yerr=ranges.T, marker=marker, color=f"C{index}", capsize=3, label=name)
    ax.grid(alpha=0.3)
    if len(points) > 1:
        ax.legend(fontsize="small")


def mark_schedule(ax: Axes, runs: Sequence[Run]) -> None:
    """Mark the first epochs in which MixNN mixes and corrects; a range where runs differ."""
    mixnn = [run for run in runs if run.settings["method"].startswith("mixnn")]
    for name, label, style in (("warmup_epochs", "W", ":"), ("correction_epoch", "$E_s$", "-.")):
        epochs = [run.line["schedule"][name] for run in mixnn]
        if not epochs or None in epochs or max(epochs) >= max(len(run.line["epochs"]) for run in mixnn):
            continue
        first, last = min(epochs), max(epochs)
        if first == last:
            ax.axvline(first, color="0.4", linestyle=style, linewidth=1, label=f"{label} = {first}")
        else:
            ax.axvspan(first, last, color="0.4", alpha=0.15, linewidth=0, label=f"{label} = {first} to {last}")
    is_full = len(ax.get_legend_handles_labels()[1]) > MOST_INSIDE
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)} if is_full else {}
    ax.legend(fontsize="small", **place)
