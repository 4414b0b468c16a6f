"""Which part of a pass belongs to the epoch in progress."""

from dataclasses import dataclass


@dataclass
class Part:
    """The part of a pass that belongs to one epoch; usually all of it.

    Attributes:
        first_batch: batches of the pass before it.
        first_sample: samples of the pass before it.
        offset: a batch's number in the pass minus its number in the epoch.
        trained: its batches that have been trained on.
    """

    first_batch: int = 0
    first_sample: int = 0
    offset: int = 0
    trained: int = 0
