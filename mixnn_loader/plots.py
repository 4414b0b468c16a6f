"""The paper's figures, from a user's own run; see `mixnn_loader.report.plots`."""

from mixnn_loader.report.plots import plot_accuracy, plot_loss_distribution

__all__ = ["plot_accuracy", "plot_loss_distribution"]
