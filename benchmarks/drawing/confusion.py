"""Fig. 6: which class is labeled as which, as given and after correction.

The paper's number is as `mixnn_loader.noise.transition_matrix` has it; it was not compared with the paper again.
"""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.drawing.panels import PAIRED, figure_of, panels
from benchmarks.drawing.runs import Array, NothingToDrawError, Run
from benchmarks.drawing.shown import first_of_each
from mixnn_loader.noise import transition_matrix

MOST_NUMBERS = 12
"""With more classes than this the numbers would not fit into their cells."""


def draw_confusion(runs: Sequence[Run]) -> Figure:
    """Draw the share of each true class that has each label: given ones, then those that a method has come to."""
    shown = first_of_each(runs)
    correcting = [(run, samples) for run, samples in shown if (samples.corrected != samples.given).any()]
    if not correcting:
        raise NothingToDrawError("it is of runs with --watch-training, of methods that correct labels")
    parts: list[tuple[str, Array]] = []
    for run, samples in correcting:
        num_classes = 1 + int(max(labels.max() for labels in (samples.true, samples.given, samples.corrected)))
        for title, labels in (("labels as given", samples.given), (f"corrected by {run.name}", samples.corrected)):
            shares = transition_matrix(torch.from_numpy(samples.true), torch.from_numpy(labels), num_classes)
            parts.append((f"{run.task}\n{title}", shares.numpy()))
    axes = panels([title for title, _ in parts], [run for run, _ in correcting], size=(4.2, 4.9), columns=PAIRED)
    for ax, (_, matrix) in zip(axes, parts, strict=True):
        draw_matrix(ax, 100 * matrix)
    return figure_of(axes)


def draw_matrix(ax: Axes, percents: Array) -> None:
    """Draw a matrix (C, C) of shares in percent, a row a true class."""
    ax.imshow(percents, cmap="Blues", vmin=0, vmax=100)
    ax.set(xlabel="label", ylabel="true class")
    if len(percents) > MOST_NUMBERS:
        return
    ax.set(xticks=range(len(percents)), yticks=range(len(percents)))
    for row, column in np.ndindex(*percents.shape):
        value = percents[row, column]
        color = "white" if value > 50 else "black"
        ax.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize="x-small", color=color)
