"""How a dataset is trained on: the same network, schedule and augmentation for every method."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from benchmarks.harness.networks import NETWORKS
from benchmarks.harness.settings import RunSettings, SettingError


@dataclass(frozen=True)
class Recipe:
    """A plain training.

    Attributes:
        network: see `benchmarks.harness.networks`.
        epochs: length of a plain training.
        warmup_epochs: W, for every method that has a warm-up.
        correction_epoch: E_s, for MixNN in its forms.
        batch_size: samples a step.
        lr: learning rate at the start.
        schedule: of the learning rate, see `SCHEDULES`.
        momentum: of SGD.
        weight_decay: of SGD.
        flip: mirror half of the images.
        crop_padding: pixels of a random translation; 0: none.
        bfloat16: run the networks under bfloat16 autocast.
        num_train: use the first so many training samples; None: all.
    """

    network: str
    epochs: int
    warmup_epochs: int
    correction_epoch: int
    batch_size: int = 128
    lr: float = 0.02
    schedule: str = "cosine"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    flip: bool = False
    crop_padding: int = 0
    bfloat16: bool = False
    num_train: int | None = None

    def with_changes(self, changes: Mapping[str, Any]) -> "Recipe":
        """Return the recipe with some fields replaced.

        Raises:
            SettingError: a field is unknown, or a value is not of its kind.
        """
        kinds = {field.name: field.type for field in fields(self)}
        if unknown := sorted(set(changes) - set(kinds)):
            raise SettingError("recipe", f"it has no {', '.join(unknown)}; it has {', '.join(sorted(kinds))}")
        for name, value in changes.items():
            kind: Any = int | float if kinds[name] is float else kinds[name]
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise SettingError("recipe", f"{name} must be {getattr(kind, '__name__', kind)}, got {value!r}")
        changed = replace(self, **changes)
        if changed.network not in NETWORKS:
            raise SettingError("recipe", f"network must be one of {', '.join(NETWORKS)}, got {changed.network!r}")
        factor(changed.schedule, 0, 1)
        return changed


def _constant_then_linear(progress: float) -> float:
    return 1.0 if progress < 0.6 else (1 - progress) / 0.4


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def _steps(progress: float) -> float:
    return 1.0 if progress < 1 / 2 else 0.1 if progress < 3 / 4 else 0.01


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "cosine": _cosine,
    "constant-linear": _constant_then_linear,
    "steps": _steps,
}
"""Share of training done, in [0, 1) -> factor of the learning rate. ``"restarts"`` goes by epochs, see `factor`."""

RESTART_PERIOD, RESTART_FLOOR = 10, 0.05
"""The paper's cosine with warm restarts: period of 10 epochs, from 0.02 down to 0.001."""


def factor(schedule: str, epoch: int, num_epochs: int) -> float:
    """Return the factor of the learning rate in an epoch.

    Raises:
        SettingError: the schedule is unknown.
    """
    if schedule == "restarts":
        return RESTART_FLOOR + (1 - RESTART_FLOOR) * _cosine(epoch % RESTART_PERIOD / RESTART_PERIOD)
    if schedule not in SCHEDULES:
        raise SettingError("recipe", f"schedule must be one of {', '.join([*SCHEDULES, 'restarts'])}, got {schedule!r}")
    return SCHEDULES[schedule](epoch / num_epochs)


_PAPER = Recipe(
    network="resnet34",
    epochs=300,
    warmup_epochs=10,
    correction_epoch=60,
    schedule="restarts",
    weight_decay=1e-3,
    flip=True,
    crop_padding=4,
)
_SMALL_CIFAR = Recipe(
    network="convnet",
    epochs=40,
    warmup_epochs=8,
    correction_epoch=16,
    lr=0.05,
    schedule="constant-linear",
    flip=True,
    bfloat16=True,
)
_SMALL_MNIST = Recipe(network="small-resnet", epochs=40, warmup_epochs=5, correction_epoch=12, num_train=10_000)

RECIPES: dict[str, Recipe] = {
    "digits": Recipe(network="mlp", epochs=120, warmup_epochs=10, correction_epoch=30, batch_size=64, lr=0.05),
    "mnist": _SMALL_MNIST,
    "fashion-mnist": _SMALL_MNIST,
    "cifar10": _SMALL_CIFAR,
    "cifar100": _SMALL_CIFAR,
    "features": Recipe(network="mlp", epochs=20, warmup_epochs=3, correction_epoch=6, lr=0.05),
    "paper-cifar10": _PAPER,
    "paper-cifar100": _PAPER.with_changes({"warmup_epochs": 30}),
}
"""By the name of a dataset; ``paper-`` in front of it: as the paper trains, which takes a GPU."""


def recipe_for(settings: RunSettings) -> Recipe:
    """Return the recipe of a dataset with the settings' changes.

    Raises:
        SettingError: there is no recipe of that name, or a change is of no field or of another kind.
    """
    if settings.dataset not in RECIPES:
        raise SettingError("dataset", f"must be one of {', '.join(RECIPES)}, got {settings.dataset!r}")
    changes = dict(settings.recipe)
    changes |= {name: value for name in ("epochs", "num_train") if (value := getattr(settings, name)) is not None}
    return RECIPES[settings.dataset].with_changes(changes)
