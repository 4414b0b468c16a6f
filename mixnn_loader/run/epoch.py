"""One epoch of the schedule, and what there is to say of it."""

from typing import Any

from torch import Tensor

from mixnn_loader.run.place import Phase, Place
from mixnn_loader.run.tally import Tally

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
    "changed_share",
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
        warmup: W, the epochs of warm-up, as far as was known when it started.
        phase: what it does.
        record: its entry in the history, filled in as it goes on.
        trained: batches that have been trained on.
        is_estimated: whether the estimates that it starts from have been made.
        estimated_for: the fingerprint of the model that they were made of; None: it is not known.
        pairs: of (sample, neighbor) pairs, those with the same given label.
        changes: of samples in warm-up, those about which the model has changed its mind.
        start: the fingerprint of the model when its first batch was handed out; None: it is not known.
        changed: whether the model was seen to change since then.
    """

    def __init__(self, number: int, phase: Phase, warmup: int) -> None:
        self.number = number
        self.warmup = warmup
        self.phase = phase
        self.record: Record = {"epoch": number, "phase": phase, **dict.fromkeys(MEASURED)}
        self.trained = 0
        self.is_estimated = False
        self.estimated_for: Tensor | None = None
        self.pairs = Tally()
        self.changes = Tally()
        self.start: Tensor | None = None
        self.changed = False

    def leave_as_they_are(self) -> None:
        """Make the epoch one of warm-up."""
        self.phase = self.record["phase"] = "warm-up"

    def place(self, batch: int) -> Place:
        """Return the place of one of its batches."""
        return Place(self.number, batch, self.phase)

    def note_shares(self) -> None:
        """Write down what has been counted; this waits for the device."""
        for name, tally in (("same_label_share", self.pairs), ("changed_share", self.changes)):
            if (share := tally.share()) is not None:  # what was noted before a stop stays
                self.record[name] = share
