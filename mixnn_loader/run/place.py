"""Where in the run a batch is."""

from dataclasses import dataclass
from typing import Literal

Phase = Literal["warm-up", "mixing", "correction"]


@dataclass(frozen=True)
class Place:
    """A place in the training, handed down to whatever depends on it.

    Attributes:
        epoch: of the schedule, from 0, warm-up included.
        batch: of the epoch, from 0.
        phase: what the epoch does.
    """

    epoch: int
    batch: int
    phase: Phase
