"""Representations in two dimensions, by true class, with the mislabeled samples marked: what stands for Fig. 8 here.

What Fig. 8 of the paper shows is not known to us. This is what its text argues from: that representations gather by
true class early in training, whatever their labels say, and that those of MixNN end in clusters that are well apart.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from benchmarks.drawing.panels import PAIRED, figure_of, panels
from benchmarks.drawing.runs import Array, NothingToDrawError, Run
from benchmarks.drawing.shown import first_of_each

PERPLEXITY = 30


def draw_representations(runs: Sequence[Run]) -> Figure:
    """Draw representations after the last epoch of warm-up and after the last one, as t-SNE arranges them."""
    shown = [(run, samples) for run, samples in first_of_each(runs) if samples.representations.shape[2] > 0]
    if not shown:
        raise NothingToDrawError(
            "it is of runs with --watch-training, and the folder that they wrote beside the results"
        )
    looks = [(run, samples, look) for run, samples in shown for look in range(len(samples.epochs))]
    titles = [f"{run.name}, {run.task}\nafter {samples.epochs[look] + 1} epochs" for run, samples, look in looks]
    axes = panels(titles, [run for run, _ in shown], size=(4.2, 4.2), columns=PAIRED)
    for ax, (_, samples, look) in zip(axes, looks, strict=True):
        places = in_two_dimensions(samples.representations[look])
        true, wrong = samples.true[samples.shown], (samples.true != samples.given)[samples.shown]
        for members, marker, label in ((~wrong, ".", "label right"), (wrong, "x", "label wrong")):
            horizontal, vertical = places[members].T
            colors = colormaps["nipy_spectral"](true[members] / max(1, true.max()))
            ax.scatter(horizontal, vertical, c=colors, s=8, marker=marker, label=label)
        ax.set(xticks=[], yticks=[])
    axes[0].legend(fontsize="small")
    return figure_of(axes)


def in_two_dimensions(rows: Array) -> Array:
    """Arrange rows (n, d) in the plane, (n, 2), so that neighbors stay neighbors; the same rows, the same places."""
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    places: Array = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(np.asarray(rows))
    return places
