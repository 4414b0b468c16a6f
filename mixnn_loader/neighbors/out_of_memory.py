"""Work in blocks, which become smaller where memory runs out."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

from mixnn_loader._utils.log import logger

MESSAGES = ("DefaultCPUAllocator", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How a plain `RuntimeError` says it: on the CPU, on MPS and from cuBLAS, which allocates on its own."""

REMEDY = (
    "the neighbor search does not fit into memory: representation_dtype=torch.float16 keeps less, search='cells' and "
    "search='hnsw' take less at a time, feature_layer= can name a narrower layer, neighbors='batch' searches nothing"
)

Result = TypeVar("Result")


def in_blocks(count: int, size: int, work: Callable[[slice], Result]) -> list[Result]:
    """Call ``work`` on blocks of rows 0..count-1, and list its results; where memory runs out, halve the blocks.

    Args:
        count: rows. For none, there is one empty block.
        size: rows in a block at most, >= 1.
        work: gets a block's place; must be repeatable if memory has run out in it.

    Raises:
        MemoryError, RuntimeError: what ``work`` raised; for lack of memory only if it did so for a single row.

    Example:
        >>> in_blocks(7, 3, lambda block: (block.start, block.stop))
        [(0, 3), (3, 6), (6, 7)]
    """
    results: list[Result] = []
    first = 0
    while first < count or not results:
        stop = min(first + size, count)
        try:
            results.append(work(slice(first, stop)))
            first = stop
        except (MemoryError, RuntimeError) as error:
            if stop - first <= 1 or not ran_out_of_memory(error):
                raise
            size = (stop - first) // 2
            # The next attempt is made outside of this clause: the error holds on to the frames in which it was
            # raised, and so to their tensors.
            tell_once()
            logger.debug("blocks of the neighbor search have %d rows from here on", size)
    return results


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed, on whichever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in MESSAGES)


@contextmanager
def remedy_where_memory_runs_out() -> Iterator[None]:
    """Add to an error for lack of memory which arguments of the loader take less."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if ran_out_of_memory(error):
            if sys.version_info >= (3, 11):
                error.add_note(REMEDY)
            else:
                logger.error(REMEDY)
        raise


@cache
def tell_once() -> None:
    """Log a warning, once a process: it may happen in every epoch."""
    logger.warning(
        "memory ran out in the neighbor search; it goes on in smaller blocks, which take longer; "
        "representation_dtype=torch.float16 and search='cells' take less"
    )
