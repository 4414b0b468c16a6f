"""The soft targets t and their moving average (Eq. 12)."""

import numpy as np
import torch
from torch import Tensor

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
    after = momentum * soft_targets.to(probabilities.dtype) + (1 - momentum) * probabilities
    finite = probabilities.isfinite().all(dim=1, keepdim=True)
    return torch.where(finite, after.to(soft_targets.dtype), soft_targets)


def credible_targets(labels: Tensor, averages: Tensor, log_posterior: Tensor) -> Tensor:
    """Return the given label as far as it is credible, and what the model has said of the sample for the rest.

    t = P ŷ + (1 - P) ê, with ê the average of predictions, sharpened: its squares, of sum one.

    Args:
        labels: (B,) int64, as given, beside the averages.
        averages: (B, C) float, the moving averages of predictions; a row of zeros where there was none.
        log_posterior: (B,) float, log P(clean), beside the averages.

    Returns:
        (B, C) float32; the label alone where nothing was predicted.

    Example:
        >>> credible_targets(torch.tensor([0]), torch.tensor([[0.1, 0.3]]), torch.tensor([0.5]).log())
        tensor([[0.5500, 0.4500]])
    """
    squares = averages.float().square()
    total = squares.sum(dim=1, keepdim=True)
    given = torch.zeros_like(squares).scatter_(1, labels.unsqueeze(1), 1)
    likely = torch.where(total > 0, squares / total.clamp_min(torch.finfo(torch.float32).tiny), given)
    credible = log_posterior.exp().unsqueeze(1)
    return credible * given + (1 - credible) * likely


def mean_over_repeats(probabilities: Tensor, indices: Tensor) -> Tensor:
    """Give every occurrence of a sample the mean of its predictions.

    A sampler with replacement may put a sample into a batch more than once. Its target then takes one step, towards
    that mean, and the result does not depend on the order of writing.

    Args:
        probabilities: (B, C) float.
        indices: (B,) int64 on the CPU, the batch's dataset indices.

    Returns:
        (B, C).
    """
    first = first_of_each(indices)
    if first is None:
        return probabilities
    counts = torch.bincount(first, minlength=len(indices))[first]
    group = to_device(first, probabilities.device)
    sums = torch.zeros_like(probabilities).index_add_(0, group, probabilities)
    return sums[group] / to_device(counts, probabilities.device, probabilities.dtype).unsqueeze(1)


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
