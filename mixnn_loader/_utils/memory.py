"""Say how much memory is taken, before it is taken."""

import logging
import math

import torch

from mixnn_loader._utils.log import logger

CHUNK_ROWS = 65_536
"""Rows of samples that are worked on at a time, where all at once would take as much memory again."""

LARGE_BYTES = 2**30
"""From 1 GiB on, an allocation is a warning: it may be the one that doesn't fit. Smaller ones are logged as info."""


def announce(what: str, shape: tuple[int, int], dtype: torch.dtype, device: torch.device, remedy: str) -> None:
    """Log what a tensor of per-sample rows will take.

    Args:
        what: the rows' name.
        shape: (N, width).
        dtype: their type.
        device: where they will be.
        remedy: the arguments that make it less.
    """
    num_bytes = math.prod(shape) * dtype.itemsize
    logger.log(
        logging.WARNING if num_bytes >= LARGE_BYTES else logging.INFO,
        "the %s of %s samples take %s MiB on %s (%d x %s); see %s",
        what,
        f"{shape[0]:,}",
        f"{num_bytes / 2**20:,.1f}",
        device,
        shape[1],
        dtype,
        remedy,
    )
