"""When warm-up is over, where the training itself says so.

In warm-up a network first learns what most labels of a class have in common, and changes its mind about many samples
from one epoch to the next, each time about fewer. Once it has settled, or where labels are so noisy that it cannot, it
goes on with learning one label after another by heart. So warm-up ends with the first epoch in which it has changed its
mind about few samples, or about hardly fewer than in the epoch before. That changed predictions tell when a network
begins to memorize is Label Wave's finding (Yuan, Feng and Liu 2024), who wait for their first minimum. Here they are
those of the averages of predictions, of which no copy has to be kept, and which change less by chance.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from mixnn_loader.run.epoch import Record
from mixnn_loader.run.settings import Settings

FEW = 0.15
"""A network that changes its mind about fewer samples in an epoch, as a share, has settled."""

HARDLY_FEWER = 0.9
"""One that changes its mind about more than this part of what it was in the epoch before does not settle."""


def first_after_warmup(settings: Settings, history: Iterable[Record]) -> int:
    """Return W, the epochs of warm-up; as long as nobody knows, the most that they may be.

    Args:
        settings: the hyper-parameters.
        history: a record an epoch.
    """
    if settings.warmup_epochs != "settled":
        return settings.warmup
    before = None
    for record in history:
        share = record.get("changed_share")
        if share is not None and (share < FEW or (before is not None and share > HARDLY_FEWER * before)):
            return int(min(record["epoch"] + 1, settings.warmup))
        before = share
    return settings.warmup


def changed(before: Tensor, after: Tensor, counts: Tensor | None = None) -> Tensor:
    """Count the samples of a batch whose likeliest class is another than before, and all of whom one was known.

    Args:
        before: (B, C) float, what was known; rows of zeros: nothing.
        after: (B, C) float, on the same device.
        counts: (B,) bool, who takes part; None: all.

    Returns:
        (2,) float32.
    """
    takes_part = before.any(dim=1)
    if counts is not None:
        takes_part &= counts
    is_other = takes_part & (before.argmax(dim=1) != after.argmax(dim=1))
    return torch.stack([is_other.sum(), takes_part.sum()]).float()
