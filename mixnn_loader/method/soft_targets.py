"""The per-sample soft targets t and their moving average (Eq. 12)."""

import numpy as np
import torch
from torch import Tensor


def moving_average_(soft_targets: Tensor, indices: Tensor, probabilities: Tensor, momentum: float) -> None:
    """Move the targets of a batch towards the model's predictions, in place: t <- α t + (1-α) p (Eq. 12).

    A sampler with replacement may put a sample into a batch more than once. Its target then takes one step,
    towards the mean of its predictions, so that the result does not depend on the order of writing. A target stays
    where it is if a prediction of its sample is not finite: the next batch may be healthy again.

    Args:
        soft_targets: (N, C) float, the targets of the whole dataset.
        indices: (B,) int64 on the CPU, the batch's rows.
        probabilities: (B, C) float32 or wider, p of the batch; the average is taken in this type.
        momentum: α in [0, 1].
    """
    device = soft_targets.device
    probabilities = probabilities.to(device)
    first = first_of_each(indices)
    if first is not None:
        # Every occurrence of a sample gets the same mean, and so writes the same value below.
        counts = torch.bincount(first, minlength=len(indices))[first]
        group = first.to(device, non_blocking=True)
        sums = torch.zeros_like(probabilities).index_add_(0, group, probabilities)
        probabilities = sums[group] / counts.to(probabilities, non_blocking=True).unsqueeze(1)
    rows = indices.to(device, non_blocking=True)
    before = soft_targets[rows]
    after = momentum * before.to(probabilities.dtype) + (1 - momentum) * probabilities
    finite = probabilities.isfinite().all(dim=1, keepdim=True)
    soft_targets[rows] = torch.where(finite, after.to(before.dtype), before)


def first_of_each(indices: Tensor) -> Tensor | None:
    """Find where in a batch each of its samples stands for the first time.

    Args:
        indices: (B,) int64 on the CPU.

    Returns:
        (B,) int64 positions, or None where no sample is in the batch twice.

    Example:
        >>> first_of_each(torch.tensor([7, 3, 7]))
        tensor([0, 1, 0])
    """
    _, first, inverse = np.unique(indices.numpy(), return_index=True, return_inverse=True)
    return None if len(first) == len(indices) else torch.from_numpy(first[inverse])
