"""Fig. 4: the losses of samples with right and with wrong labels, and the mixture that is fitted to them.

The paper's number is as `mixnn_loader.plots.plot_loss_distribution` has it; it was not compared with the paper again.
"""

from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks.drawing.panels import PAIRED, figure_of, panels
from benchmarks.drawing.runs import NothingToDrawError, Run
from benchmarks.drawing.shown import first_of_each
from mixnn_loader.plots import plot_loss_distribution


def draw_losses(runs: Sequence[Run]) -> Figure:
    """Draw the losses after the last epoch of warm-up, and after the last one."""
    shown = first_of_each(runs)
    if not shown:
        raise NothingToDrawError(
            "it is of runs with --watch-training, and the folder that they wrote beside the results"
        )
    looks = [(run, samples, look) for run, samples in shown for look in range(len(samples.epochs))]
    titles = [f"{run.name}, {run.task}\nafter {samples.epochs[look] + 1} epochs" for run, samples, look in looks]
    axes = panels(titles, [run for run, _ in shown], columns=PAIRED)
    for ax, (_, samples, look) in zip(axes, looks, strict=True):
        plot_loss_distribution(samples.losses[look], is_noisy=samples.given != samples.true, ax=ax)
        legend = ax.get_legend()
        if legend is not None and ax is not axes[0]:
            legend.remove()
    return figure_of(axes)
