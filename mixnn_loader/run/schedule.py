"""Which epoch and batch a run is at, and what there was to say of each epoch."""

from collections.abc import Mapping
from typing import Any

from mixnn_loader.run.settings import Phase

Record = dict[str, Any]
"""An epoch's entry in the history."""

MEASURED = (
    "scan",
    "noise_rate",
    "means",
    "variances",
    "priors",
    "search",
    "search_recall",
    "same_label_share",
    "scan_seconds",
    "mixture_seconds",
    "search_seconds",
    "batches_seconds",
)
"""What the history holds of every epoch besides its number and phase."""


class Epochs:
    """Counts epochs and their batches, and keeps the history.

    Attributes:
        history: a record an epoch.
        merged: whether all processes know what each has learned in the epoch that was started last.
        stopped_within: whether the next iteration is of the rest of an epoch, within which the loaded state was saved.
    """

    def __init__(self) -> None:
        self.history: list[Record] = []
        self.merged = True
        self.stopped_within = False
        self._number = 0
        self._started = False
        self._batch = 0
        self._running: Record | None = None

    @property
    def number(self) -> int:
        """The epoch that is running or was started last; before the first, the one that comes."""
        return self._number

    @property
    def next(self) -> int:
        """The epoch that the next iteration is of."""
        return self._number + self._started

    @property
    def is_within(self) -> bool:
        """Whether an epoch is running, or was when the state was saved that has been loaded."""
        return self._running is not None or self.stopped_within

    @property
    def batch(self) -> int:
        """Batches that this epoch has given; 0 between epochs."""
        return self._batch if self.is_within else 0

    def record(self, phase: Phase) -> Record:
        """Make a record for the next epoch, to be filled in."""
        return {"epoch": self.next, "phase": phase, **dict.fromkeys(MEASURED)}

    def begin(self, record: Record) -> None:
        """Start the epoch of a new record."""
        self.history.append(record)
        self.merged = False
        self._number, self._started, self._batch = record["epoch"], True, 0
        self._running, self.stopped_within = record, False

    def resume(self) -> Record:
        """Go on with the epoch within which the loaded state was saved."""
        self._started, self._running, self.stopped_within = True, self.history[-1], False
        return self._running

    def count_batch(self) -> int:
        """Count a batch, and return the batches so far."""
        self._batch += 1
        return self._batch

    def runs(self, record: Record) -> bool:
        """Whether this record's epoch is the one that runs."""
        return self._running is record

    def end(self, record: Record) -> None:
        """End this record's epoch, unless another has been started."""
        if self.runs(record):
            self._running = None

    def stop(self) -> None:
        """Stop the epoch that runs: the next iteration is of its rest."""
        self._running, self._started, self.stopped_within = None, False, True

    def set(self, number: int) -> None:
        """Let the next iteration be of epoch ``number``; one that is running or stopped goes on if it is this one."""
        if number != self._number:
            self._running, self.stopped_within = None, False
        self._number, self._started = number, False

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and primitives."""
        return {
            "epoch": self._number if self.is_within else self.next,
            "batch": self.batch,
            "merged": self.merged,
            "history": [dict(record) for record in self.history],
        }

    def load_state_dict(self, state: Mapping[str, Any], *, within: bool) -> None:
        """Take over what `state_dict` returned.

        Args:
            state: with these entries and maybe others.
            within: whether it was saved within an epoch.
        """
        self.history = [dict(record) for record in state["history"]]
        self.merged = state["merged"]
        self._number, self._started, self._batch = state["epoch"], False, state["batch"]
        self._running, self.stopped_within = None, within
