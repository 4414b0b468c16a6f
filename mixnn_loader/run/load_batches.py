"""An epoch's batches, loaded with their neighbors and brought to the model's device."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from mixnn_loader._utils.random_state import Stream, derived_rng
from mixnn_loader.data.indexed import DrawNeighbors
from mixnn_loader.data.to_device import ReceivedBatch
from mixnn_loader.run.answers import checked_drawn
from mixnn_loader.run.epoch import Epoch
from mixnn_loader.run.parts import Parts


def load_batches(parts: Parts, epoch: Epoch, offset: int, *, draws_seed: bool) -> Iterator[ReceivedBatch]:
    """Load the batches that the sampler draws until it pauses.

    Args:
        parts: what all passes share.
        epoch: whose batches they are.
        offset: a batch's number in the pass minus its number in the epoch.
        draws_seed: whether the start draws a number of the user's for the workers, as the user's own loader does.

    Raises:
        Exception: what loading raises; a `RuntimeError` where a batch can be loaded without its neighbors only.
    """
    device = parts.view.device
    if epoch.phase == "warm-up":
        parts.batch_sampler.begin_epoch(epoch.number, offset=offset)
    else:
        parts.batch_sampler.begin_epoch(epoch.number, _draw_of(parts), offset=offset)
    with _seed_of_workers(parts, epoch, draws_seed=draws_seed):
        batches = iter(parts.inner)
    # Without workers, transforms draw from the random streams of the training loop, and must not draw ahead of it.
    is_ahead = device.type != "cpu" and parts.wrapped.num_workers > 0
    received = parts.receiver.one_ahead(batches, device) if is_ahead else parts.receiver.in_turn(batches, device)
    try:
        yield from received
    except Exception as error:
        position = parts.batches.position()
        if epoch.phase != "warm-up" and position is not None and position.waiting:
            parts.rehearsal.check_alone(error, list(position.waiting.values()))
        raise


def _draw_of(parts: Parts) -> DrawNeighbors:
    """Return how neighbors are drawn.

    The sampler keeps the answer. It must not keep the parts, of which the sampler is one: in such a circle, the garbage
    collector ends the workers, and waits five seconds for each, as the queues that tell them may be gone before them.
    """
    source, k, num_samples = parts.settings.source, parts.settings.num_neighbors, parts.num_samples
    candidates = parts.estimator.candidates()

    def draw(indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return checked_drawn(source.draw(indices, k, candidates, rng), len(indices), k, num_samples)

    return draw


@contextmanager
def _seed_of_workers(parts: Parts, epoch: Epoch, *, draws_seed: bool) -> Iterator[None]:
    """Where the start of a pass must not draw from the user's generator, let it draw from one of its own."""
    if draws_seed:
        yield
        return
    seed = int(derived_rng(parts.settings.seed, epoch.number, epoch.trained, Stream.WORKERS).integers(2**32))
    parts.inner.generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    try:
        yield
    finally:
        parts.inner.generator = parts.wrapped.generator
