"""When warm-up is over, where the training itself says so.

In warm-up a network first learns what most labels of a class have in common, and changes its mind about many samples
from one epoch to the next, then about fewer and fewer. Once it has settled, or where labels are so noisy that it
cannot, it goes on with learning one label after another by heart. So warm-up ends with the first epoch in which it has
changed its mind about few samples, or about hardly fewer than in the epoch before. That changed predictions tell when a
network begins to memorize is Label Wave's finding (Yuan, Feng and Liu 2024), who wait for their first minimum. Here
they are those of the averages of predictions, of which no copy has to be kept, and which change less by chance.

A network that has hardly begun to learn, as its learning rate is still small, changes its mind about few samples, too.
So all of that counts only once it has changed its mind about many, and half of these changes are gone.
"""

from collections.abc import Iterable

from mixnn_loader.run.epoch import Record
from mixnn_loader.run.settings import Settings

FEW = 0.15
"""A network that changes its mind about fewer samples in an epoch, as a share, has settled."""

HARDLY_FEWER = 0.9
"""One that changes its mind about more than this part of what it was in the epoch before does not settle."""

PART_OF_MOST = 0.5
"""No more than this part of its most changes must be left, and these must not be few: else it may only be starting."""


def first_after_warmup(settings: Settings, history: Iterable[Record]) -> int:
    """Return W, the epochs of warm-up; as long as nobody knows, the most that they may be.

    Args:
        settings: the hyper-parameters.
        history: a record an epoch. An epoch that was none of warm-up has ended it, whatever the shares say.
    """
    longest = settings.longest_warmup
    if settings.warmup_epochs != "settled":
        return longest
    most = before = 0.0
    for record in history:
        if record["phase"] != "warm-up":
            return min(int(record["epoch"]), longest)
        share = record.get("changed_share")
        if share is None:
            before = 0.0
            continue
        is_past_most = most >= FEW and share <= PART_OF_MOST * most
        if is_past_most and (share < FEW or share > HARDLY_FEWER * before > 0):
            return min(int(record["epoch"]) + 1, longest)
        most, before = max(most, share), share
    return longest
