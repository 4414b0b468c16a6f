"""How the learning rate falls over a training."""

import math
from collections.abc import Callable

from benchmarks.harness.settings import SettingError


def _constant_then_linear(progress: float) -> float:
    return 1.0 if progress < 0.6 else (1 - progress) / 0.4


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def _by(divisor: float, *marks: float) -> Callable[[float], float]:
    """Divide the learning rate at these marks."""
    return lambda progress: divisor ** -sum(progress >= mark for mark in marks)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "cosine": _cosine,
    "constant-linear": _constant_then_linear,
    "step": _by(10.0, 1 / 2),
    "steps": _by(10.0, 1 / 2, 3 / 4),
    "steps-in-thirds": _by(10.0, 1 / 3, 2 / 3),
    "steps-by-five": _by(5.0, 1 / 2, 3 / 4),
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
