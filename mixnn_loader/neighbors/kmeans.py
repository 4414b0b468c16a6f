"""Centers of cells that the rows fall into, good enough to search by."""

import torch
from torch import Tensor

from mixnn_loader.neighbors.out_of_memory import Blocks

ROWS_A_CELL = 32
"""Sampled rows that a center is the mean of. More cost time in proportion, and the cells searched are hardly fewer."""

NUM_ROUNDS = 4

BLOCK_ROWS = 8_192
"""Rows whose distances to all centers are held at a time."""


def find_centers(rows: Tensor, num_cells: int, generator: torch.Generator) -> Tensor:
    """Run a few rounds of Lloyd's algorithm on a sample of the rows.

    On the CPU, wherever the rows are: adding rows up by cell on a GPU gives sums that vary from run to run in
    their last bits, and the answer of a resumed run must not.

    Args:
        rows: (N, d) float32.
        num_cells: C, at most N.
        generator: of the CPU; draws the sample.

    Returns:
        (C, d) float32 on the device of ``rows``.
    """
    size = min(len(rows), num_cells * ROWS_A_CELL)
    chosen = torch.randperm(len(rows), generator=generator, device="cpu")[:size]
    sample = rows[chosen.to(rows.device)].cpu()
    centers = sample[:num_cells].clone()
    for _ in range(NUM_ROUNDS):
        cells = nearest_centers(sample, centers, BLOCK_ROWS)  # (size,)
        sums = torch.zeros_like(centers).index_add_(0, cells, sample)
        counts = torch.bincount(cells, minlength=num_cells)[:, None]  # (C, 1)
        centers = torch.where(counts > 0, sums / counts.clamp_min(1), centers)
    return centers.to(rows.device)


def nearest_centers(rows: Tensor, centers: Tensor, block_rows: int) -> Tensor:
    """Give the number of the center nearest to each row, (N,) int64, in blocks of at most ``block_rows``."""
    blocks = Blocks(block_rows).run(len(rows), lambda block: squared_distances(rows[block], centers).argmin(dim=1))
    return torch.cat(blocks)


def squared_distances(rows: Tensor, centers: Tensor) -> Tensor:
    """Give |y|² - 2xy for each row x and center y, (N, C): |x|² is the same all along a row."""
    return torch.addmm(centers.square().sum(dim=1), rows, centers.T, alpha=-2)
