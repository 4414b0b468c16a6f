"""Training labels that are right after correction, by epoch: what stands for Fig. 9 here.

What Fig. 9 of the paper shows is not known to us. This is how what Table V has for the last epoch comes about.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from benchmarks.drawing.panels import draw_mean_curves, figure_of, mark_schedule, panels
from benchmarks.drawing.runs import NothingToDrawError, Run, curves_by_name, grouped


def draw_correction(runs: Sequence[Run]) -> Figure:
    """Draw the share of right labels of every method that corrects; a dotted line is the share as given."""
    correcting = [run for run in runs if run.curve("labels.right") is not None]
    if not correcting:
        raise NothingToDrawError("it is of runs with --watch-training, of methods that correct labels")
    tasks = grouped(correcting, lambda run: run.task)
    axes, names = panels(list(tasks), correcting), list(grouped(correcting, lambda run: run.name))
    for ax, members in zip(axes, tasks.values(), strict=True):
        draw_mean_curves(ax, curves_by_name(members, "labels.right"), names)
        as_given = 100 * (1 - float(np.mean([run.line["actual_noise_rate"] for run in members])))
        ax.axhline(as_given, color="black", linestyle=":", linewidth=1, label="as given")
        mark_schedule(ax, members)
        ax.set_ylabel("labels right (%)")
    return figure_of(axes)
