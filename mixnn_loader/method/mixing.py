"""Weights and samples -> mixed samples (Eq. 4)."""

import torch
from torch import Tensor


def mix(originals: Tensor, partners: Tensor, weights: Tensor) -> Tensor:
    """Mix samples with their partners: x̃ = λ x_i + Σ β^k x_k (Eq. 4).

    Args:
        originals: (B, ...) float.
        partners: (B, K, ...), the neighbors of each.
        weights: (B, K+1) float.

    Returns:
        (B, ...), a new tensor of the originals' type and memory format.
    """
    columns = weights.to(originals.dtype).view(weights.shape + (1,) * (originals.dim() - 1))
    mixed = columns[:, 0] * originals
    for k in range(partners.shape[1]):
        mixed = torch.addcmul(mixed, columns[:, k + 1], partners[:, k])
    return mixed


def mix_targets(soft_targets: Tensor, weights: Tensor) -> Tensor:
    """Mix targets with those of the neighbors: ỹ = λ t_i + Σ β^k t_k (Eq. 5 with t for y).

    Args:
        soft_targets: (B, K+1, C) float, t of the sample (column 0) and of its neighbors.
        weights: (B, K+1) float.

    Returns:
        (B, C).
    """
    return (weights.unsqueeze(-1) * soft_targets).sum(dim=1)
