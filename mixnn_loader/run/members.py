"""Which samples are training data: only these are scanned, fitted, and mixed into others."""

from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from mixnn_loader._utils.log import logger
from mixnn_loader.data.members import declared_members
from mixnn_loader.data.read_once import read_once
from mixnn_loader.run.sample_table import SampleTable


class Members:
    """The samples that take part: those that the caller names, or the sampler declares, or that have been drawn.

    Whatever else is in the dataset may be held out for validation, and must not be mixed into the training.

    Args:
        loader: the user's.
        table: knows which samples have been drawn.
        given: (n,) int64, sorted, what the caller says; None: nothing.
    """

    def __init__(self, loader: DataLoader[Any], table: SampleTable, given: np.ndarray | None = None) -> None:
        self._loader = loader
        self._table = table
        self._given = given
        self._told: str | None = None

    def known(self) -> np.ndarray | None:
        """Return the members that are known before anything has been drawn, sorted; None if none are."""
        return self._given if self._given is not None else declared_members(self._loader)

    def now(self) -> np.ndarray:
        """Return the members, (n,) int64, sorted; the sampler's indices or weights may change between epochs."""
        members, source = self.known(), "members="
        if members is None:
            members, source = np.flatnonzero(self._table.last_batch.numpy() >= 0), "what has been drawn so far"
            if len(members) == 0 and (read := read_once(self._loader)) is not None:
                members, source = read, "one look at what the sampler draws"
        elif self._given is None:
            source = "the sampler"
        self._tell(len(members), source)
        return members

    def _tell(self, count: int, source: str) -> None:
        text = f"{count} of {len(self._table)} samples take part in scan and mixing, by {source}"
        if text != self._told:
            logger.info(text)
            self._told = text
