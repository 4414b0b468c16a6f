"""Fig. 7c: how many neighbors: K = 0 to 6, weighted, averaged, and averaged where all labels are right."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks.drawing.panels import draw_points, figure_of, panels
from benchmarks.drawing.runs import NothingToDrawError, Run, grouped
from benchmarks.harness.lines import ACCURACY, lookup

WEIGHTED, AVERAGED, CLEAN = "weighted", "averaged", "averaged, labels all right"


def draw_neighbors(runs: Sequence[Run]) -> Figure:
    """Draw the last epoch's test accuracy by K, a panel a dataset and kind of noise."""
    mixnn = [run for run in runs if run.settings["method"] == "mixnn" and _is_of_k(run)]
    noisy = [run for run in mixnn if run.settings["rate"] > 0]
    if len({run.options["num_neighbors"] for run in noisy}) < 2:
        raise NothingToDrawError(
            "it is of runs of mixnn with several num_neighbors, and no other option but weighting=uniform"
        )
    tasks = grouped(noisy, lambda run: run.task)
    axes = panels(list(tasks), mixnn)
    for ax, members in zip(axes, tasks.values(), strict=True):
        training = members[0].training
        clean = [run for run in mixnn if run.settings["rate"] == 0 and run.training == training]
        draw_points(ax, accuracies_by_k(members) | accuracies_by_k(clean))
        ax.set(xlabel="K, number of neighbors", ylabel="test accuracy, last epoch (%)")
    return figure_of(axes)


def accuracies_by_k(runs: Sequence[Run]) -> dict[str, dict[float, list[float]]]:
    """Return curve -> K -> accuracies of the seeds."""
    points: dict[str, dict[float, list[float]]] = {}
    for run in runs:
        accuracy = lookup(run.line, ACCURACY)
        assert accuracy is not None
        for curve in _curves_of(run):
            points.setdefault(curve, {}).setdefault(run.options["num_neighbors"], []).append(accuracy)
    return points


def _is_of_k(run: Run) -> bool:
    return "num_neighbors" in run.options and run.options | {"weighting": "uniform"} == {
        "num_neighbors": run.options["num_neighbors"],
        "weighting": "uniform",
    }


def _curves_of(run: Run) -> list[str]:
    if run.settings["rate"] == 0:
        return [CLEAN] if _is_averaged(run) else []
    # Without neighbors there is nothing to weigh: one run is where both curves start.
    return [WEIGHTED, AVERAGED] if run.options["num_neighbors"] == 0 else [AVERAGED if _is_averaged(run) else WEIGHTED]


def _is_averaged(run: Run) -> bool:
    return run.options["num_neighbors"] == 0 or "weighting" in run.options
