"""Two opinions on what a label is -> one."""

import torch
from torch import Tensor

from mixnn_loader._utils.memory import CHUNK_ROWS

LEAST = 1e-6
"""No opinion rules a class out."""


def combined(one: Tensor, other: Tensor) -> Tensor:
    """Combine the probabilities that two opinions give to each class: their geometric mean, rows summing to one.

    It is a logarithmic opinion pool of equal weights (Genest and Zidek 1986): where one is undecided the other decides,
    and what both say alike is said no louder.

    Args:
        one: (n, C) float, rows summing to one.
        other: (n, C) float, likewise, on the same device.

    Returns:
        (n, C) float32.

    Example:
        >>> combined(torch.tensor([[0.8, 0.2]]), torch.tensor([[0.5, 0.5]]))
        tensor([[0.6667, 0.3333]])
    """
    both = torch.empty(one.shape, dtype=torch.float32, device=one.device)
    parts = (torch.split(tensor, CHUNK_ROWS) for tensor in (both, one, other))
    for rows, mine, theirs in zip(*parts, strict=True):
        rows.copy_(mine.float().clamp_min(LEAST).log() + theirs.float().clamp_min(LEAST).log())
        rows.copy_((rows / 2).softmax(dim=1))
    return both
