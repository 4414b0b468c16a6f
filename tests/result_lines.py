"""Lines of a results file, made up."""

from typing import Any

import numpy as np

from benchmarks.harness.settings import RunSettings

SCHEDULE = {"warmup_epochs": 1, "correction_epoch": 2}


def result_line(
    method: str = "ce",
    accuracies: tuple[float, ...] = (50.0, 60.0, 70.0),
    *,
    dataset: str = "digits",
    options: dict[str, Any] | None = None,
    rate: float = 0.4,
    noise: str = "symmetric",
    seed: int = 0,
    watched: bool = False,
    right: tuple[float, ...] | None = None,
    recipe: dict[str, Any] | None = None,
    epochs: int | None = None,
) -> dict[str, Any]:
    """Make the line of a run.

    Args:
        method: its name.
        accuracies: on test data, an epoch each.
        dataset: its name.
        options: of the method.
        rate: of wrong labels.
        noise: its kind.
        seed: of the run.
        watched: with figures of the training data in every epoch.
        right: share of labels that are right after correction, an epoch each; None: of a method that corrects none.
        recipe: changes of it.
        epochs: that were asked for.
    """
    settings = RunSettings(
        method, dataset, noise, rate, seed, epochs, None, recipe or {}, options or {}, watch_training=watched
    )
    measured: list[dict[str, Any]] = []
    for epoch, accuracy in enumerate(accuracies):
        figures: dict[str, Any] = {"epoch": epoch, "test": {"accuracy": accuracy}}
        if watched or epoch == len(accuracies) - 1:
            clean = float(np.exp(-epoch))
            figures["training"] = {"clean_gradient": clean, "noisy_gradient": 1 - clean / 4, "memorized": 10.0 * epoch}
            figures["labels"] = {} if right is None else {"right": right[epoch]}
        measured.append(figures)
    return {
        "key": settings.key,
        "settings": settings.as_dict(),
        "machine": {"date": "2026-11-25", "processor": "a processor", "gpu": "none", "torch": "2.14"},
        "recipe": {"epochs": len(accuracies)},
        "schedule": {name: (options or {}).get(name, epoch) for name, epoch in SCHEDULE.items()},
        "num_train": 1347,
        "actual_noise_rate": rate,
        "seconds": 3.0,
        "cost": {"forward": 10, "plain_trainings": 1.0},
        "figures": {"last": {"accuracy": accuracies[-1]}},
        "labels": {} if right is None else {"right": right[-1]},
        "epochs": measured,
    }
