"""Pictures of a user's own run; see `mixnn_loader.report.plots` and `mixnn_loader.report.label_plots`."""

from mixnn_loader.report.label_plots import (
    plot_confusion,
    plot_history,
    plot_loss_mixture,
    plot_neighbors,
    plot_representations,
)
from mixnn_loader.report.plots import plot_accuracy, plot_loss_distribution

__all__ = [
    "plot_accuracy",
    "plot_confusion",
    "plot_history",
    "plot_loss_distribution",
    "plot_loss_mixture",
    "plot_neighbors",
    "plot_representations",
]
