"""Sensitivity of MixNN to what a user has to choose: α, E_s and W. No figure of the paper that we know of."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks.drawing.panels import draw_points, figure_of, panels
from benchmarks.drawing.runs import NothingToDrawError, Run, grouped
from benchmarks.harness.lines import ACCURACY, lookup

OPTIONS = {
    "momentum": "α, what is kept of a target a step",
    "correction_epoch": "$E_s$, first epoch of correction",
    "warmup_epochs": "W, epochs of warm-up",
}


def draw_sensitivity(runs: Sequence[Run]) -> Figure:
    """Draw the last epoch's test accuracy by the value of one option, all others being as they are by default."""
    varied = [run for run in runs if run.settings["method"] == "mixnn" and _only_option(run) is not None]
    if not varied:
        raise NothingToDrawError(f"it is of runs of mixnn with one of the options {', '.join(OPTIONS)}")
    varied_alike = grouped(varied, lambda run: f"{run.training}: {_only_option(run)}")
    axes = panels([members[0].training for members in varied_alike.values()], varied)
    for ax, members in zip(axes, varied_alike.values(), strict=True):
        option = _only_option(members[0])
        assert option is not None
        points: dict[str, dict[float, list[float]]] = {}
        for run in members:
            accuracy = lookup(run.line, ACCURACY)
            assert accuracy is not None
            points.setdefault(run.noise, {}).setdefault(float(run.options[option]), []).append(accuracy)
        draw_points(ax, points)
        ax.set(xlabel=OPTIONS[option], ylabel="test accuracy, last epoch (%)")
        ax.legend(fontsize="small")
    return figure_of(axes)


def _only_option(run: Run) -> str | None:
    """Return the option that is varied; a run without a number for it has no place on the axis."""
    name = next(iter(run.options), None)
    is_one = len(run.options) == 1 and name in OPTIONS and run.options[name] is not None
    return name if is_one else None
