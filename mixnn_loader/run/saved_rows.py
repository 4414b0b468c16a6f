"""Rows of samples that a state brings: whether they can be what was saved."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

HISTORY = ("times_asked", "wrong_events", "probability_sums")
"""Columns of what the model has said of a sample in the course of the training."""

HISTORY_ROUNDING = 1e-3
"""A sum of float32 probabilities is above their number by this share at most."""

MAY_BE_NONE = ("soft_targets", "averages", "representations", "unshared")


def check_kinds(state: Mapping[str, Any], kinds: Mapping[str, tuple[torch.dtype, int]]) -> None:
    """Check that a state has every column, and each is of its kind.

    Args:
        state: the rows by column; None for one that was not there.
        kinds: of each column, the type, for which any floating-point type stands for all, and the number of dimensions.

    Raises:
        ValueError: one is missing or of another kind.
    """
    for name, (dtype, dims) in kinds.items():
        if name not in state:
            raise ValueError(f"the state has no {name!r} of the samples; is the checkpoint whole?")
        rows = state[name]
        if rows is None and name in MAY_BE_NONE:
            continue
        kind = f"{'floating-point' if dtype.is_floating_point else dtype} tensor of {dims} dimensions"
        is_float = isinstance(rows, Tensor) and rows.is_floating_point()
        fits = is_float if dtype.is_floating_point else isinstance(rows, Tensor) and rows.dtype == dtype
        if not fits or rows.dim() != dims:
            raise ValueError(f"the state's {name} must be a {kind}, got {rows!r:.60}; is the checkpoint whole?")


def check_numbers(state: Mapping[str, Any], names: Iterable[str], num_samples: int, num_classes: int) -> None:
    """Check labels, neighbors and the history, of columns that `check_kinds` has checked.

    Args:
        state: the rows by column.
        names: of the columns.
        num_samples: of the dataset.
        num_classes: of the state's targets; 0 where there are none.

    Raises:
        ValueError: one has a number that it cannot have, or another number of rows than it must have.
    """
    for name, what, stop in (
        ("given_labels", "class indices or -1", num_classes),
        ("neighbor_pool", "dataset indices or -1", num_samples),
    ):
        if ((state[name] < -1) | (state[name] >= stop)).any():
            raise ValueError(f"the state's {name} must be {what}, below {stop}; is the checkpoint whole?")
    for name in names:
        if state[name] is not None and len(state[name]) != num_samples:
            raise ValueError(f"the state's {name} must have a row for each of the {num_samples} samples")
    asked, wrong, sums = (state[name].cpu() for name in HISTORY)
    most = asked * (1 + HISTORY_ROUNDING)
    if not bool(((wrong >= 0) & (wrong <= asked) & (sums >= 0) & (sums <= most)).all()):
        raise ValueError(
            f"the state's {', '.join(HISTORY)} do not belong together: what was counted must be between 0 and how "
            "often a sample was asked about; is the checkpoint whole?"
        )
