"""A few batches, loaded before they are needed: what cannot be loaded shows now rather than after warm-up."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from mixnn_loader._utils.random_state import Stream, derived_rng, forked_random_state
from mixnn_loader.data.indexed import IndexBatch, LoadedBatch, rebuilt


def load_once(loader: DataLoader[Any], dataset: Any, batches: Sequence[np.ndarray], seed: int) -> list[LoadedBatch]:
    """Load batches as the scan or the training will, and leave the user's random streams as they are.

    Where the user's loader has workers, one does it, and ends: a dataset is opened in such a process as later on, and
    what it opens there is not kept.

    Args:
        loader: the user's, whose settings count.
        dataset: the user's, or another with the same samples.
        batches: of each batch the dataset indices, (B,) int64, or (B, K+1) with the neighbors after each sample.
        seed: of the random transforms.

    Returns:
        Each batch.

    Raises:
        Exception: what the user's code raises; from a worker, of the same type and with its traceback in the message.
    """
    rng = derived_rng(seed, 0, 0, Stream.REHEARSED_SAMPLES)
    seeds = [int(number) for number in rng.integers(2**32, size=2 * len(batches) + 1)]
    asked = [
        IndexBatch(number, batch if batch.ndim == 2 else batch[:, None], *seeds[2 * number : 2 * number + 2])
        for number, batch in enumerate(batches)
    ]
    # The start of a pass draws a number from it, on the default device.
    generator = torch.Generator(torch.get_default_device()).manual_seed(seeds[-1])
    once = rebuilt(
        loader,
        dataset,
        batch_sampler=asked,
        generator=generator,
        num_workers=min(1, loader.num_workers),
        persistent_workers=False,
        in_order=True,
    )
    with forked_random_state(seeds[-1]):
        return list(once)
