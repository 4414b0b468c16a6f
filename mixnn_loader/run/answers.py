"""What the user's own objects answer, checked: an answer that does not fit is named by its argument.

The shapes and types are checked in every batch, since nothing waits for the device for that. What takes a look at the
numbers is checked once, in the first batch.
"""

from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from mixnn_loader._utils.checks import shown
from mixnn_loader.method.credibility import Estimate
from mixnn_loader.neighbors.complete import Found
from mixnn_loader.neighbors.source import Pairs

TOLERANCE = 1e-2
"""How far a row of weights may be from one: they may be in half precision."""


def checked_found(found: Any, num_queries: int, k: int, num_rows: int) -> Found:
    """Check what a source's ``search`` returned."""
    neighbors = found[0] if isinstance(found, tuple) and len(found) == 3 else None
    if not _are_integers(neighbors, (num_queries, k)):
        raise ValueError(
            f"the search of neighbors= must return row numbers ({num_queries}, {k}), the name of the backend and the "
            f"recall, got {shown(neighbors if isinstance(neighbors, Tensor) else found)}"
        )
    outside = (neighbors < 0) | (neighbors >= num_rows)
    if outside.any():
        raise ValueError(
            f"the search of neighbors= must return row numbers in 0..{num_rows - 1}, got {int(neighbors[outside][0])}"
        )
    return Found(*found)


def checked_drawn(drawn: Any, num_rows: int, k: int, num_samples: int) -> np.ndarray:
    """Check what a source's ``draw`` returned."""
    if (
        not isinstance(drawn, np.ndarray)
        or drawn.dtype.kind not in "iu"
        or drawn.shape not in ((num_rows, k), (num_rows, 0))
    ):
        raise ValueError(
            f"the draw of neighbors= must return a NumPy array of dataset indices of shape ({num_rows}, {k}), or "
            f"({num_rows}, 0), got {shown(drawn)}"
        )
    outside = drawn[(drawn < 0) | (drawn >= num_samples)]
    if len(outside) > 0:
        raise ValueError(
            f"the draw of neighbors= must return dataset indices in 0..{num_samples - 1}, got {int(outside[0])}"
        )
    return drawn


def checked_pairs(pairs: Any, num_rows: int, k: int, *, thoroughly: bool = False) -> Pairs | None:
    """Check what a source's ``pair`` returned.

    Args:
        pairs: the answer.
        num_rows: B.
        k: K.
        thoroughly: also check the numbers, which waits for the device.
    """
    if pairs is None:
        return None
    positions: Any
    found: Any
    positions, found = pairs if isinstance(pairs, tuple) and len(pairs) == 2 else (None, None)
    fits = isinstance(found, Tensor) and found.dtype == torch.bool and found.shape == (num_rows, k)
    if not fits or not _are_integers(positions, (num_rows, k)):
        raise ValueError(
            f"the pair of neighbors= must return None, or positions and found, integers and booleans of shape "
            f"({num_rows}, {k}), got {shown(positions)} and {shown(found)}"
        )
    if positions.device != found.device:
        raise ValueError(
            f"the pair of neighbors= must return both on one device, got {positions.device}, {found.device}"
        )
    positions = positions.to(torch.int64)  # bytes would be taken for a mask
    if thoroughly and ((positions < 0) | (positions >= num_rows)).any():
        raise ValueError(f"the pair of neighbors= must return row numbers of the batch, in 0..{num_rows - 1}")
    return Pairs(positions, found)


def checked_weights(weights: Any, found: Tensor, *, thoroughly: bool = False) -> Tensor:
    """Check what ``weighting=`` returned.

    Args:
        weights: the answer.
        found: (B, K) bool, which neighbors there are.
        thoroughly: also check the numbers, which waits for the device.
    """
    shape = (found.shape[0], found.shape[1] + 1)
    if not isinstance(weights, Tensor) or not weights.is_floating_point() or weights.shape != shape:
        raise ValueError(f"weighting= must return a floating-point tensor of shape {shape}, got {shown(weights)}")
    if weights.device != found.device:
        raise ValueError(f"weighting= must return weights on {found.device}, where the batch is, got {weights.device}")
    if thoroughly:
        sums_up = ((weights.sum(dim=1) - 1).abs() <= TOLERANCE).all()
        if not sums_up or not (weights >= 0).all() or (weights[:, 1:][~found] != 0).any():
            raise ValueError(
                "weighting= must return weights >= 0 that sum to one in each row, and are zero for neighbors that are "
                "not found"
            )
    return weights


def checked_estimate(estimate: Any, num_members: int) -> Estimate:
    """Check what the ``estimate`` of ``credibility=`` returned."""
    log_posterior = estimate[0] if isinstance(estimate, tuple) and len(estimate) in (2, 3) else None
    fits = isinstance(log_posterior, Tensor) and log_posterior.is_floating_point()
    if log_posterior is None or not fits or log_posterior.shape != (num_members,):
        raise ValueError(
            "the estimate of credibility= must return an Estimate, with log P(clean) as a floating-point tensor of "
            f"shape ({num_members},), got {shown(estimate if log_posterior is None else log_posterior)}"
        )
    if not (log_posterior <= 0).all():  # a NaN is not, either
        raise ValueError(
            "the estimate of credibility= must return log P(clean), at most 0 and never NaN (-inf for a label that is "
            f"surely wrong), got {float(log_posterior[~(log_posterior <= 0)][0])}; take the logarithm of probabilities"
        )
    answer = Estimate(*estimate)
    likely: Any = answer.likely
    is_table = isinstance(likely, Tensor) and likely.is_floating_point() and likely.dim() == 2
    if likely is not None and not (is_table and len(likely) == num_members):
        raise ValueError(
            f"the estimate of credibility= must return None or floating-point likely labels ({num_members}, C), got "
            f"{shown(likely)}"
        )
    return answer


def _are_integers(values: Any, shape: tuple[int, ...]) -> TypeGuard[Tensor]:
    if not isinstance(values, Tensor) or values.shape != shape:
        return False
    return not values.is_floating_point() and not values.is_complex() and values.dtype != torch.bool
