"""Fig. 7b: the gradient's coefficient |p - ŷ| at the given class, of samples with right and with wrong labels."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from benchmarks.drawing.panels import figure_of, mark_schedule, panels
from benchmarks.drawing.runs import NothingToDrawError, Run, curves_by_name, grouped

GROUPS = {"right labels": ("training.clean_gradient", "-"), "wrong labels": ("training.noisy_gradient", "--")}


def draw_gradients(runs: Sequence[Run]) -> Figure:
    """Draw the mean coefficient by epoch: what still pulls at the network.

    A method that resists leaves a large one at wrong labels, which it does not fit, and brings that at right ones to 0.
    """
    watched = [run for run in runs if any(run.curve(path) is not None for path, _ in GROUPS.values())]
    if not watched:
        raise NothingToDrawError("it is of runs with --watch-training, on data whose true labels are known")
    tasks = grouped(watched, lambda run: run.task)
    axes, names = panels(list(tasks), watched), list(grouped(watched, lambda run: run.name))
    for ax, members in zip(axes, tasks.values(), strict=True):
        for group, (path, style) in GROUPS.items():
            for name, values in curves_by_name(members, path).items():
                epochs = np.arange(values.shape[1])
                ax.plot(epochs, values.mean(axis=0), style, color=f"C{names.index(name)}", label=f"{name}, {group}")
        ax.set(xlabel="epoch", ylabel="mean |p - ŷ| at the given class", ylim=(0, 1))
        ax.grid(alpha=0.3)
        mark_schedule(ax, members)
    return figure_of(axes)
