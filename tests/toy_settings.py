"""Hyper-parameters for tests of what goes by them: the paper's defaults but for the search, and changes."""

from typing import Any

from mixnn_loader.run.settings import Settings

DEFAULTS: dict[str, Any] = {
    "epochs": None,
    "num_neighbors": 1,
    "warmup_epochs": 10,
    "correction_epoch": 60,
    "epoch_length": None,
    "momentum": 0.9,
    "correct_neighbors": True,
    "neighbors": "dataset",
    "neighbor_pool": None,
    "search": "auto",
    "early_learning": 0.0,
    "prediction_momentum": 0.7,
    "correct_by": "prediction",
    "weighting": "mixture",
    "credibility": "mixture",
    "scan": "epoch",
    "scan_every": None,
    "seed": 0,
}


def settings(**changes: Any) -> Settings:
    """Return the defaults with some changes."""
    return Settings(**(DEFAULTS | changes))
