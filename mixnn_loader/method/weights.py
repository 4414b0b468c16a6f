"""The weights of a sample and its neighbors, from the probabilities that their labels are right (Eq. 10, 11)."""

import torch
from torch import Tensor


def posterior_weights(log_posteriors: Tensor, found: Tensor) -> Tensor:
    """Weights proportional to the probability of being clean (Eq. 10, 11).

    They are a softmax over log-posteriors: P / ΣP would be 0/0 where everybody is surely wrong. Where every P is
    exactly zero, the weights are equal.

    Args:
        log_posteriors: (B, K+1) float, log P(clean) of the sample (column 0) and of its neighbors.
        found: (B, K) bool, False for a neighbor that does not exist; its weight is zero.

    Returns:
        (B, K+1) float, rows summing to one.

    Example:
        >>> posterior_weights(torch.tensor([[0.6, 0.2]]).log(), torch.tensor([[True]]))
        tensor([[0.7500, 0.2500]])
    """
    logits = log_posteriors.clamp_min(torch.finfo(log_posteriors.dtype).min)
    logits[:, 1:].masked_fill_(~found, -torch.inf)
    return logits.softmax(dim=1)


def uniform_weights(found: Tensor) -> Tensor:
    """Equal weights for the sample and the neighbors that exist (ablation "averaged weights").

    Args:
        found: (B, K) bool.

    Returns:
        (B, K+1) float32, rows summing to one.
    """
    return posterior_weights(torch.zeros(found.shape[0], found.shape[1] + 1, device=found.device), found)


def beta_weights(own_weights: Tensor, found: Tensor) -> Tensor:
    """A random λ for the sample, the rest shared equally among its neighbors (ablation "random weights").

    Args:
        own_weights: (B,) float, λ drawn from Beta(1, 1), the uniform distribution on [0, 1].
        found: (B, K) bool. Where a sample has no neighbor at all, λ is one.

    Returns:
        (B, K+1) float, rows summing to one.
    """
    num_found = found.sum(dim=1)
    own = torch.where(num_found > 0, own_weights, torch.ones_like(own_weights))
    share = (1 - own) / num_found.clamp_min(1)
    return torch.cat([own.unsqueeze(1), share.unsqueeze(1) * found], dim=1)
