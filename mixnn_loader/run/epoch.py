"""One epoch of the schedule, and what there is to say of it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mixnn_loader._utils.transfer import to_device
from mixnn_loader.run.place import Phase, Place

Record = dict[str, Any]
"""An epoch's entry in the history."""

MEASURED = (
    "scan",
    "noise_rate",
    "means",
    "variances",
    "priors",
    "separation",
    "search",
    "search_recall",
    "same_label_share",
    "scan_seconds",
    "mixture_seconds",
    "search_seconds",
    "batches_seconds",
)
"""What the history holds of every epoch besides its number and phase."""


class Epoch:
    """An epoch, from its first batch until it has been trained for; one or more passes over the loader.

    Attributes:
        number: from 0, warm-up included.
        phase: what it does.
        record: its entry in the history, filled in as it goes on.
        trained: batches that have been trained on.
        is_estimated: whether the estimates that it starts from have been made.
        estimated_for: the fingerprint of the model that they were made of; None: it is not known.
        pairs: (2,) counts of (sample, neighbor) pairs: those with the same given label, and all.
        pairs_of_all: (2,) counts that have been shared among the processes, in which `pairs` are not.
        start: the fingerprint of the model when its first batch was handed out; None: it is not known.
        changed: whether the model was seen to change since then.
    """

    def __init__(self, number: int, phase: Phase) -> None:
        self.number = number
        self.phase = phase
        self.record: Record = {"epoch": number, "phase": phase, **dict.fromkeys(MEASURED)}
        self.trained = 0
        self.is_estimated = False
        self.estimated_for: Tensor | None = None
        self.pairs = torch.zeros(2, dtype=torch.float32, device="cpu")
        self.pairs_of_all = self.pairs.clone()
        self.start: Tensor | None = None
        self.changed = False

    def place(self, batch: int) -> Place:
        """Return the place of one of its batches."""
        return Place(self.number, batch, self.phase)

    def add_pairs(self, pairs: Tensor) -> None:
        """Count pairs, which are beside the model: nothing here waits for them."""
        self.pairs = to_device(self.pairs, pairs.device) + pairs

    def share_pairs(self, add_up: Callable[[Tensor], Tensor]) -> None:
        """Replace the counts of this process by those of all.

        Args:
            add_up: sums a tensor over the processes.
        """
        self.pairs_of_all = self.pairs_of_all + add_up(self.pairs).cpu()
        self.pairs = torch.zeros_like(self.pairs)

    def note_share(self) -> None:
        """Write down the share of pairs with the same given label; this waits for the device."""
        same, total = (self.pairs.cpu() + self.pairs_of_all).tolist()
        self.record["same_label_share"] = same / total if total > 0 else None
