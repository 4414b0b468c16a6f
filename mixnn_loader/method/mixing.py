"""Weights, samples and targets -> mixed samples (Eq. 4) and mixed targets (Eq. 5)."""

from torch import Tensor


def mix(originals: Tensor, partners: Tensor, weights: Tensor) -> Tensor:
    """Mix samples with their neighbors: x̃ = λ x_i + Σ β^k x_k (Eq. 4).

    Who has a weight of zero takes no part, even with NaN or infinite inputs. A weight counts as zero if it is so in the
    inputs' type.

    Args:
        originals: (B, ...) float.
        partners: (B, K, ...), the neighbors of each.
        weights: (B, K+1) float.

    Returns:
        (B, ...), a new tensor of the originals' type and memory format.
    """
    columns = weights.to(originals.dtype).view(weights.shape + (1,) * (originals.dim() - 1))
    weightless = columns == 0
    mixed = columns[:, 0] * _without(originals, weightless[:, 0])
    for k in range(partners.shape[1]):
        mixed.addcmul_(columns[:, k + 1], _without(partners[:, k], weightless[:, k + 1]))
    return mixed


def _without(rows: Tensor, weightless: Tensor) -> Tensor:
    """Zero the rows (B, ...) whose weight is zero, by (B, 1, ...): zero times NaN or infinity is NaN.

    It takes a copy, which only the CPU is asked whether it is needed: an accelerator would have to be waited for.
    """
    if weightless.device.type == "cpu" and not weightless.any():
        return rows
    return rows.masked_fill(weightless, 0)


def mix_targets(soft_targets: Tensor, weights: Tensor) -> Tensor:
    """Mix the targets of samples with those of their neighbors: ỹ = λ t_i + Σ β^k t_k (Eq. 5 with t for y).

    Args:
        soft_targets: (B, K+1, C) float, those of the samples (column 0) and of their neighbors.
        weights: (B, K+1) float.

    Returns:
        (B, C), a new tensor.
    """
    return (weights.unsqueeze(-1) * soft_targets).sum(dim=1)
