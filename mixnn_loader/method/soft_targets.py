"""The soft targets t and their moving average (Eq. 12)."""

import numpy as np
import torch
from torch import Tensor

from mixnn_loader._utils.batch_indices import BatchIndices
from mixnn_loader._utils.transfer import to_device


def moving_average(soft_targets: Tensor, probabilities: Tensor, momentum: float) -> Tensor:
    """Move targets towards the model's predictions: t <- α t + (1-α) p (Eq. 12).

    A target stays where it is if the prediction of its sample is not finite: the next batch may be healthy again.

    Args:
        soft_targets: (B, C) float, the targets of a batch.
        probabilities: (B, C) float32 or wider, p; the average is taken in this type.
        momentum: α in [0, 1].

    Returns:
        (B, C), a new tensor of the targets' type.

    Example:
        >>> moving_average(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]), momentum=0.9)
        tensor([[0.9500, 0.0500]])
    """
    after = torch.add(momentum * soft_targets.to(probabilities.dtype), probabilities, alpha=1 - momentum)
    is_finite = probabilities.sum(dim=1, keepdim=True) * 0 == 0  # isfinite() takes twice as many kernels
    return torch.where(is_finite, after.to(soft_targets.dtype), soft_targets)


def credible_targets(labels: Tensor, likely: Tensor, log_posterior: Tensor) -> Tensor:
    """Return the given label as far as it is credible, and what is likely for the rest: t = P ŷ + (1 - P) q.

    Args:
        labels: (B,) int64, as given, on the same device.
        likely: (B, C) float, q, rows summing to one.
        log_posterior: (B,) float, log P(clean), on the same device.

    Returns:
        (B, C) float32.

    Example:
        >>> credible_targets(torch.tensor([0]), torch.tensor([[0.1, 0.9]]), torch.tensor([0.5]).log())
        tensor([[0.5500, 0.4500]])
    """
    credible = log_posterior.exp().unsqueeze(1)
    targets = (1 - credible) * likely.float()
    return targets.scatter_add_(1, labels.unsqueeze(1), credible)


def sharpened(likely: Tensor, labels: Tensor, power: float = 2.0) -> Tensor:
    """Raise likelihoods to a power, and scale them to a sum of one.

    Args:
        likely: (B, C) float, at least 0.
        labels: (B,) int64, what is taken where nothing is likely, on the same device.
        power: at least 0.

    Returns:
        (B, C) float32, rows summing to one.

    Example:
        >>> sharpened(torch.tensor([[0.1, 0.3], [0.0, 0.0]]), torch.tensor([0, 0]))
        tensor([[0.1000, 0.9000],
                [1.0000, 0.0000]])
    """
    most = likely.float().amax(dim=1, keepdim=True)
    scaled = (likely.float() / most.clamp_min(torch.finfo(torch.float32).tiny)).pow(power)
    given = torch.zeros_like(scaled).scatter_(1, labels.unsqueeze(1), 1)
    return torch.where(most > 0, scaled / scaled.sum(dim=1, keepdim=True), given)


def mean_over_repeats(probabilities: Tensor, indices: BatchIndices) -> Tensor:
    """Give every occurrence of a sample the mean of its predictions.

    A sampler with replacement may put a sample into a batch more than once. Its target then takes one step, towards
    that mean, and the result does not depend on the order of writing.

    Args:
        probabilities: (B, C) float.
        indices: of the batch.

    Returns:
        (B, C).
    """
    first, counts = indices.first, indices.counts
    if first is None or counts is None:
        return probabilities
    group = first.on(probabilities.device)
    sums = torch.zeros_like(probabilities).index_add_(0, group, probabilities)
    return sums[group] / to_device(counts, probabilities.device, probabilities.dtype).unsqueeze(1)


def places_in_batch(neighbors: Tensor, indices: Tensor) -> Tensor | None:
    """Find the neighbors that are themselves samples of the batch.

    Args:
        neighbors: (B, K) int64 on the CPU, dataset indices.
        indices: (B,) int64 on the CPU, those of the batch.

    Returns:
        (B, K) int64, a position in the batch, or -1 where the neighbor is not in it; None if none is.

    Example:
        >>> places_in_batch(torch.tensor([[3], [9]]), torch.tensor([7, 3]))
        tensor([[ 1],
                [-1]])
    """
    known, first = np.unique(indices.numpy(), return_index=True)
    asked = neighbors.numpy()
    if asked.size == 0:
        return None
    rank = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    there = known[rank] == asked
    return torch.from_numpy(np.where(there, first[rank], -1)) if there.any() else None
