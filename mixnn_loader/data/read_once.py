"""What a sampler of an unknown type will draw, read from a copy of it."""

import copy
import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from mixnn_loader._utils.generators import GENERATORS
from mixnn_loader._utils.log import logger
from mixnn_loader._utils.random_state import kept_random_state
from mixnn_loader.data.reach import Reach
from mixnn_loader.data.user_loader import length_of, num_samples

_MOST_DRAWS = 4
"""How often each sample is drawn, on average, before a sampler counts as one that never ends."""


def read_once(loader: DataLoader[Any]) -> np.ndarray | None:
    """Say which dataset indices the batch sampler draws in an epoch, and in which of its batches, (N,) int64.

    A copy of it is read, and the random streams are put back: the user's own draws the same as if this had not been.
    Of one that never ends, two epochs are read, or as much as holds four draws of each sample.

    Returns:
        Of each sample of the dataset, the number of the batch that it was in last; -1 for one that is in none. Or else
        None where it cannot be read like that: it cannot be copied, its copy changes something that it shares, it
        fails, or it draws something else than indices of the dataset.
    """
    length = length_of(loader)
    # A sampler knows its dataset, which may be large, and only reads it.
    dataset: Any = loader.dataset
    parts = [part for part in getattr(dataset, "__dict__", {}).values() if not isinstance(part, GENERATORS)]
    shared = {id(part): part for part in [dataset, *parts]}
    with ExitStack() as failing:
        failing.push(_noted)
        before = Reach(loader.batch_sampler, shared.values())
        with _kept_streams(before):
            batch_sampler: Any = copy.deepcopy(loader.batch_sampler, dict(shared))
            most = None if length is None else 2 * length
            drawn = _drawn(islice(iter(batch_sampler), most), num_samples(loader))
        if before.is_as_before():
            return drawn
        logger.info("the sampler cannot be read ahead of its use: its copy changes what it shares with it")
    return None


def _noted(kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
    """Log what the user's code raised, and go on."""
    if kind is None or not issubclass(kind, Exception):
        return False
    logger.info("the sampler cannot be read ahead of its use: %r", error)
    return True


@contextmanager
def _kept_streams(reach: Reach) -> Iterator[None]:
    """Put all generators back on leaving, the global ones and those in reach."""
    on_gpus: Callable[[], bool] = torch.cuda.is_initialized
    with kept_random_state(), torch.random.fork_rng(range(torch.cuda.device_count()) if on_gpus() else []):
        try:
            yield
        finally:
            reach.restore()


def _drawn(batches: Iterable[Any], num_samples: int) -> np.ndarray:
    """Collect the number of the last batch of each sample, (num_samples,) int64."""
    batch_of = np.full(num_samples, -1, dtype=np.int64)
    rest = _MOST_DRAWS * num_samples
    for number, batch in enumerate(batches):
        indices = np.array([operator.index(index) for index in batch], dtype=np.int64)
        if (indices < 0).any():
            raise IndexError(f"the sampler draws {indices.min()}, which is no place of a dataset")
        batch_of[indices] = number
        rest -= max(1, len(indices))  # batches may be empty
        if rest <= 0:
            break
    return batch_of
