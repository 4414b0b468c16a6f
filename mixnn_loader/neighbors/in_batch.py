"""Neighbors within a mini-batch: a handful of kernels for each neighbor, and nothing that waits for the device.

Whatever depends on the data is a mask. Shapes depend on B and k alone.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader._utils.checks import check_count
from mixnn_loader._utils.transfer import to_device
from mixnn_loader.neighbors.source import NeighborSource, Pairs


@dataclass(eq=False)
class NearestInBatch(NeighborSource):
    """The nearest in the mini-batch (the authors' released code)."""

    sees = "batch"

    def pair(self, indices: Tensor, representations: Tensor | None, k: int, rng: np.random.Generator) -> Pairs | None:
        """Compare the batch's representations."""
        del rng
        if representations is None:
            raise ValueError("representations must be given: the nearest in a batch are found by them")
        return Pairs(*nearest_in_batch(representations, indices, k))


@dataclass(eq=False)
class RandomInBatch(NeighborSource):
    """Uniform draws from the mini-batch."""

    def pair(self, indices: Tensor, representations: Tensor | None, k: int, rng: np.random.Generator) -> Pairs | None:
        """Draw among the batch."""
        del representations
        draws = torch.from_numpy(rng.random((len(indices), k), dtype=np.float32))
        return Pairs(*random_in_batch(indices, k, to_device(draws, indices.device)))


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
def random_in_batch(indices: Tensor, k: int, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Draw ``k`` distinct others in the batch for each row, every choice being equally likely, in time O(B k^2).

    Args:
        indices: (B,) which sample of the dataset each row is; rows of the same sample never meet.
        k: neighbors a row, >= 0.
        draws: (B, k) independent uniform random numbers in [0, 1), one a neighbor.

    Returns:
        positions (B, k) int64 and found (B, k) bool, as `nearest_in_batch` does.

    Raises:
        ValueError: ``draws`` is not a floating-point (B, k), ``indices`` not (B,), or ``k`` negative.
    """
    batch_size = len(indices)
    _check(indices, batch_size, k)
    if draws.shape != (batch_size, k) or not draws.is_floating_point():
        raise ValueError(
            f"draws must be floating point of shape (B, k) with B = {batch_size} and k = {k}, got "
            f"{draws.dtype} of shape {tuple(draws.shape)}"
        )
    indices = indices.contiguous()
    by_sample, order = indices.sort(stable=True)  # rows of the same sample are next to each other: first to end
    first = torch.searchsorted(by_sample, indices)[:, None]
    end = torch.searchsorted(by_sample, indices, right=True)[:, None]
    num_others = batch_size - (end - first)  # (B, 1)
    chosen = first.new_empty(batch_size, 0)  # numbers of others, from 0
    for draw in draws.unbind(dim=1):
        # A number below that of the others who are left is moved past each that is taken, in rising order: uniform
        # over those left, with no draw to reject.
        num_left = (num_others - chosen.shape[1]).clamp(min=1)
        number = (draw[:, None] * num_left).long().minimum(num_left - 1)
        for taken in chosen.sort(dim=1).values.unbind(dim=1):
            number = number + (number >= taken[:, None])
        chosen = torch.cat([chosen, number], dim=1)
    found = torch.arange(k, dtype=torch.int64, device=indices.device) < num_others  # (B, k)
    places = chosen + (end - first) * (chosen >= first)  # among the sorted rows, past those of the same sample
    return torch.where(found, order[places.clamp(max=batch_size - 1)], _own(order)), found


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
    return torch.where(found, positions, _own(positions)), found


def _own(positions: Tensor) -> Tensor:
    """Give each row's own position, (B, 1), on the device of some others."""
    return torch.arange(len(positions), dtype=torch.int64, device=positions.device)[:, None]
