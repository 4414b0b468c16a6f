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
        probabilities: (B, C) float on the targets' device, p of the batch.
        momentum: α in [0, 1].
    """
    _, first, inverse, counts = np.unique(indices.numpy(), return_index=True, return_inverse=True, return_counts=True)
    device = soft_targets.device
    if len(first) < len(indices):
        # Every occurrence of a sample gets the same mean, and so writes the same value below.
        group = torch.from_numpy(inverse).to(device)
        sums = torch.zeros(len(first), probabilities.shape[1], dtype=probabilities.dtype, device=device)
        sums.index_add_(0, group, probabilities)
        probabilities = (sums / torch.from_numpy(counts).to(sums).unsqueeze(1))[group]
    rows = indices.to(device, non_blocking=True)
    before = soft_targets[rows]
    after = momentum * before + (1 - momentum) * probabilities.to(before.dtype)
    soft_targets[rows] = torch.where(probabilities.isfinite().all(dim=1, keepdim=True), after, before)
