"""Fig. 2 and 7a: test accuracy by epoch."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks.drawing.panels import draw_mean_curves, figure_of, mark_schedule, panels
from benchmarks.drawing.runs import NothingToDrawError, Run, curves_by_name, grouped


def draw_accuracy(runs: Sequence[Run]) -> Figure:
    """Draw every method's test accuracy; where MixNN starts to mix and to correct is marked."""
    tasks = grouped(runs, lambda run: run.task)
    if not tasks:
        raise NothingToDrawError("there is no run")
    axes, names = panels(list(tasks), runs), list(grouped(runs, lambda run: run.name))
    for ax, members in zip(axes, tasks.values(), strict=True):
        draw_mean_curves(ax, curves_by_name(members, "test.accuracy"), names)
        mark_schedule(ax, members)
        ax.set_ylabel("test accuracy (%)")
    return figure_of(axes)


def draw_watched_accuracy(runs: Sequence[Run]) -> Figure:
    """Draw the same of the runs that Fig. 7b is of, so that the two can be read side by side."""
    watched = [run for run in runs if run.settings["watch_training"]]
    if not watched:
        raise NothingToDrawError("it is of runs with --watch-training")
    return draw_accuracy(watched)
