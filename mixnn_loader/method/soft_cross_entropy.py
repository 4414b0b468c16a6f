"""Cross-entropy against probabilities, with the class weights, smoothing and ignored class of class indices.

`torch.nn.CrossEntropyLoss` has other semantics for probabilities than for class indices: there the mean is not over
the weights, and no class can be ignored. Here they are the same, so that the losses of mixed targets and of the
labels of a validation set are on one scale.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class SoftCrossEntropy(NamedTuple):
    """The loss of every sample, and what it counts for in the mean.

    Attributes:
        losses: (B,) float.
        weights: (B,) float, of which the mean is the sum of losses over the sum of these; None: 1 each.
    """

    losses: Tensor
    weights: Tensor | None


def soft_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
) -> SoftCrossEntropy:
    """Compute -Σ_c w_c ỹ_c log softmax(logits)_c of each sample.

    For one-hot targets it is what `torch.nn.functional.cross_entropy` gives for class indices, with any of its
    arguments.

    Args:
        logits: (B, C) float32 or wider.
        targets: (B, C) float, rows summing to one.
        weight: (C,) float, w of each class, on the same device; None: 1 each.
        label_smoothing: in [0, 1], the part of a target that is spread over all classes.
        ignore_index: a class whose part of a target counts for nothing; outside 0..C-1: none is ignored.

    Returns:
        Losses and weights, Σ_c w_c ỹ_c without the ignored class.
    """
    num_classes = logits.shape[1]
    log_probabilities = logits.log_softmax(dim=1)
    counted, kept = targets, None
    if weight is not None:
        weight = weight.to(logits.dtype)
        counted = targets * weight
    if 0 <= ignore_index < num_classes:
        kept = 1 - targets[:, ignore_index]
        is_ignored = torch.arange(num_classes, dtype=torch.int64, device=targets.device) == ignore_index
        counted = counted.masked_fill(is_ignored, 0)
    losses = _products(counted, log_probabilities)
    if label_smoothing > 0:
        even = torch.ones_like(log_probabilities) if weight is None else weight.expand_as(log_probabilities)
        spread = _products(even, log_probabilities) / num_classes
        if kept is not None:
            spread = kept * spread.masked_fill(kept == 0, 0)  # of what is ignored it may be infinite
        losses = (1 - label_smoothing) * losses + label_smoothing * spread
    return SoftCrossEntropy(losses, None if weight is None and kept is None else counted.sum(dim=1))


def _products(shares: Tensor, log_probabilities: Tensor) -> Tensor:
    """Return -Σ_c of shares (B, C) times log-probabilities (B, C), (B,).

    Where a share is zero, a class that the model rules out (a logit of -inf) must not give 0 * inf.
    """
    return -(shares * log_probabilities.masked_fill(shares == 0, 0)).sum(dim=1)
