"""The vote of a sample's neighbors on its label: SSR's (Feng, Tzimiropoulos and Patras, BMVC 2022).

Where most labels are wrong the right one is still the most frequent among many samples that look alike, whatever the
network makes of any of them.
"""

import torch
from torch import Tensor

from mixnn_loader._utils.memory import CHUNK_ROWS

MOST_VOTERS, FEWEST_VOTERS = 200, 10
VOTERS_PER_CLASS = 2 / 5
"""Of the samples of a class: with more, other classes have to be among the nearest."""


def num_voters(num_samples: int, num_classes: int) -> int:
    """Return how many neighbors to ask: SSR's 200, and fewer where classes are small.

    Args:
        num_samples: N >= 2.
        num_classes: C >= 1.

    Example:
        >>> num_voters(50_000, 10), num_voters(50_000, 100), num_voters(1_347, 10)
        (200, 200, 53)
    """
    of_class = int(VOTERS_PER_CLASS * num_samples / num_classes)
    return min(MOST_VOTERS, max(FEWEST_VOTERS, of_class), num_samples - 1)


def vote_shares(neighbors: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count the labels among each sample's neighbors.

    Args:
        neighbors: (n, k) int64 row numbers in 0..n-1.
        labels: (n,) int64, as given, on the same device.
        num_classes: C.

    Returns:
        (n, C) float32, rows summing to one; zeros where there are no neighbors.

    Example:
        >>> vote_shares(torch.tensor([[1, 2], [0, 2], [0, 1]]), torch.tensor([0, 1, 1]), 2)
        tensor([[0.0000, 1.0000],
                [0.5000, 0.5000],
                [0.5000, 0.5000]])
    """
    shares = torch.zeros(len(neighbors), num_classes, dtype=torch.float32, device=labels.device)
    for rows, part in zip(torch.split(shares, CHUNK_ROWS), torch.split(neighbors, CHUNK_ROWS), strict=True):
        voters = labels[part]
        rows.scatter_add_(1, voters, torch.ones_like(voters, dtype=torch.float32))
    return shares.div_(max(neighbors.shape[1], 1))
