"""Checks of arguments, with one wording for all."""

import math
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor


def check_count(name: str, value: object, minimum: int = 0, kind: str = "an integer", below: float = math.inf) -> None:
    """Raise a `ValueError` that names the argument, its value and its range unless it is an integer in it."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not minimum <= int(value) < below:
        upper = "" if below == math.inf else f" and < {below}"
        raise ValueError(f"{name} must be {kind} >= {minimum}{upper}, got {value!r}")


def check_fraction(name: str, value: object) -> None:
    """Raise a `ValueError` that names the argument, its value and its range unless it is a number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise ValueError(f"{name} must be a number in [0, 1], got {value!r}")


def check_not_negative(name: str, value: object) -> None:
    """Raise a `ValueError` that names the argument and its value unless it is a finite number, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
        raise ValueError(f"{name} must be a number >= 0, got {value!r}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise a `ValueError` that names the argument, its value and the choices unless it is one of them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_floating_type(
    name: str, value: object, kind: str = "a floating-point torch.dtype of 16 bits or more"
) -> None:
    """Raise a `ValueError` that names the argument and its value unless it is a floating-point type to compute in."""
    if not isinstance(value, torch.dtype) or not value.is_floating_point or value.itemsize < 2:
        raise ValueError(f"{name} must be {kind}, got {value!r}")


def as_device(name: str, value: torch.device | str | None) -> torch.device | None:
    """Return a device, or None for None; raise a `ValueError` that names the argument and its value for others."""
    try:
        return None if value is None else torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{name} must be None or a torch device such as 'cuda:0', got {value!r}") from error


def shown(value: object) -> str:
    """Name a value in a message: tensors and arrays by type and shape, all else by the start of its words."""
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim > 0:
        kind = "array" if isinstance(value, np.ndarray) else "tensor"
        return f"a {kind} of {value.dtype} and shape {tuple(value.shape)}"
    return f"{value!r:.60}"
