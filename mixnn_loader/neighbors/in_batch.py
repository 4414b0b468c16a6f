"""Neighbors within a mini-batch: a handful of kernels, and nothing that waits for the device.

Whatever depends on the data is a mask. Shapes depend on B and k alone.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader._utils.checks import check_count
from mixnn_loader._utils.transfer import to_device
from mixnn_loader.neighbors.source import NeighborSource, Pairs, Sees


class NearestInBatch(NeighborSource):
    """The nearest in the mini-batch (the authors' released code)."""

    sees: Sees = "batch"

    def __repr__(self) -> str:
        return "NearestInBatch()"

    def pair(self, indices: Tensor, representations: Tensor | None, k: int, rng: np.random.Generator) -> Pairs | None:
        """Compare the batch's representations."""
        del rng
        if representations is None:
            raise ValueError("representations must be given: the nearest in a batch are found by them")
        return Pairs(*nearest_in_batch(representations, indices, k))


class RandomInBatch(NeighborSource):
    """Uniform draws from the mini-batch."""

    def __repr__(self) -> str:
        return "RandomInBatch()"

    def pair(self, indices: Tensor, representations: Tensor | None, k: int, rng: np.random.Generator) -> Pairs | None:
        """Draw among the batch."""
        del representations
        scores = torch.from_numpy(rng.random((len(indices), len(indices)), dtype=np.float32))
        return Pairs(*random_in_batch(indices, k, to_device(scores, indices.device)))


@torch.no_grad()
def nearest_in_batch(representations: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find each row's ``k`` nearest others in its batch, by Euclidean distance, nearest first.

    Rows that are the same sample, drawn twice into the batch, are never each other's neighbors. A row
    with a NaN or an infinity is nobody's neighbor and has none.

    Args:
        representations: (B, d) floating point.
        indices: (B,) which sample of the dataset each row is.
        k: neighbors a row, >= 0.

    Returns:
        positions (B, k) int64, row numbers within the batch, and found (B, k) bool. Where there are too
        few others, the position is the row's own and found is False.

    Raises:
        ValueError: ``representations`` is not a floating-point (B, d), ``indices`` not (B,), or ``k`` negative.

    Example:
        >>> positions, found = nearest_in_batch(torch.tensor([[0.0], [1.0], [3.0]]), torch.arange(3), k=1)
        >>> positions.flatten().tolist()
        [1, 0, 1]
    """
    if representations.ndim != 2 or not representations.is_floating_point():
        raise ValueError(
            "representations must be floating point of shape (B, d), got "
            f"{representations.dtype} of shape {tuple(representations.shape)}"
        )
    _check(indices, len(representations), k)
    finite = representations.isfinite().all(dim=1)  # (B,)
    rows = representations.to(torch.promote_types(representations.dtype, torch.float32))
    # By differences: a batch is small, nothing cancels however far the rows are from the origin, and
    # without a matrix product neither autocast nor TF32 has anything to narrow.
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")  # (B, B)
    # Infinity will stand for "not allowed" alone: a distance that overflowed is merely the largest one.
    distances = distances.clamp(max=torch.finfo(distances.dtype).max)
    return _k_smallest(distances, _same(indices) | ~(finite & finite[:, None]), k)


@torch.no_grad()
def random_in_batch(indices: Tensor, k: int, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Draw ``k`` distinct others in the batch for each row, every choice being equally likely.

    Args:
        indices: (B,) which sample of the dataset each row is; rows of the same sample never meet.
        k: neighbors a row, >= 0.
        scores: (B, B) independent uniform random numbers, the caller's draw: the ``k`` smallest win.

    Returns:
        positions (B, k) int64 and found (B, k) bool, as `nearest_in_batch` does.

    Raises:
        ValueError: ``scores`` is not a floating-point (B, B), ``indices`` not (B,), or ``k`` negative.
    """
    _check(indices, len(indices), k)
    if scores.shape != (len(indices), len(indices)) or not scores.is_floating_point():
        raise ValueError(
            f"scores must be floating point of shape (B, B) with B = {len(indices)}, got "
            f"{scores.dtype} of shape {tuple(scores.shape)}"
        )
    return _k_smallest(scores, _same(indices), k)


def _check(indices: Tensor, batch_size: int, k: int) -> None:
    if indices.shape != (batch_size,):
        raise ValueError(f"indices must have shape ({batch_size},), got {tuple(indices.shape)}")
    check_count("k", k)


def _same(indices: Tensor) -> Tensor:
    return indices[:, None] == indices  # (B, B)


def _k_smallest(values: Tensor, forbidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Give the places of the ``k`` smallest finite and allowed values in each row of (B, B), smallest first."""
    batch_size = len(values)
    values = values.masked_fill(forbidden, torch.inf)
    if k > batch_size:
        values = functional.pad(values, (0, k - batch_size), value=torch.inf)  # (B, k)
    if k == 1:
        smallest, positions = values.min(dim=1, keepdim=True)  # a third of the time
    else:
        smallest, positions = values.topk(k, dim=1, largest=False, sorted=True)  # (B, k)
    found = smallest.isfinite()
    own = torch.arange(batch_size, dtype=torch.int64, device=values.device)[:, None]  # (B, 1)
    return torch.where(found, positions, own), found
