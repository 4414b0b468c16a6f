"""Which samples are training data: only these are scanned, fitted, and mixed into others."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mixnn_loader._utils.log import logger
from mixnn_loader._utils.processes import Processes
from mixnn_loader.data.members import declared_members, listed_batches, makes_own_batches
from mixnn_loader.run.sample_table import SampleTable


class Members:
    """The samples that take part: those that the caller names, or the sampler declares, or that have been drawn.

    Whatever else is in the dataset may be held out for validation, and must not be mixed into the training.

    Args:
        loader: the user's.
        table: knows which samples have been drawn.
        processes: which train together: what one draws takes part on all.
        given: (n,) int64, sorted, what the caller says; None: nothing.

    Raises:
        ValueError: the sampler draws others than the caller says.
    """

    def __init__(
        self, loader: DataLoader[Any], table: SampleTable, processes: Processes, given: np.ndarray | None = None
    ) -> None:
        self._loader = loader
        self._table = table
        self._processes = processes
        self._given = given
        self._own_batches = makes_own_batches(loader)
        self._told: str | None = None
        self._is_other = np.ones(len(table), dtype=bool)
        if given is not None:
            self._is_other[given] = False
        declared = None if given is None else declared_members(loader)
        if declared is not None:
            self.check_drawn(declared)

    def known(self) -> np.ndarray | None:
        """Return the members that are known before anything has been drawn, sorted; None if none are."""
        return self._given if self._given is not None else declared_members(self._loader)

    def check_drawn(self, indices: np.ndarray) -> None:
        """Check that samples that are trained on, or will be, are among those that the caller has named.

        Args:
            indices: (n,) int64.

        Raises:
            ValueError: one is not.
        """
        if self._given is None or len(beyond := indices[self._is_other[indices]]) == 0:
            return
        raise ValueError(
            f"the sampler draws dataset index {beyond[0]}, which is not in members: members= says which samples are "
            "training data, and does not choose what is drawn; give the DataLoader sampler=SubsetRandomSampler(...) of "
            "the same indices, which makes members= needless, or add what else is trained on to members="
        )

    def now(self) -> np.ndarray:
        """Return the members on all processes, (n,) int64, sorted.

        The sampler's indices or weights may change between epochs.
        """
        members, source = self.known(), "members="
        if members is None:
            members, source = np.flatnonzero(self._table.last_batch.numpy() >= 0), "what has been drawn so far"
        elif self._given is None:
            source = "the sampler"
        members = self._processes.union(torch.from_numpy(members)).numpy()
        self._tell(len(members), source)
        return members

    def batches(self, members: np.ndarray) -> np.ndarray | None:
        """Say in which batch each sample of the dataset comes, where only the user's own batches may be collated.

        Of several processes, each has to ask.

        Args:
            members: (n,) int64, the same on all processes.

        Returns:
            (N,) int64, the number of the batch in which a sample was drawn last, or else of that of a list of batches
            in which it stands. Members that are in none have a number of their own, once another is in one. -1 where
            there is no number. None where samples can be put together as they come.
        """
        if not self._own_batches:
            return None
        processes, drawn = self._processes, self._table.last_batch.numpy().astype(np.int64)
        listed = listed_batches(self._loader)
        if listed is not None:  # beyond any number of a batch that has been drawn
            listed = np.where(listed < 0, -1, listed * processes.size + processes.rank + np.iinfo(np.int32).max)
            drawn = np.where(drawn < 0, listed, drawn)
        rows = np.flatnonzero(drawn >= 0)
        numbers = np.full(len(drawn), -1, dtype=np.int64)
        rows, of_rows = (processes.gather(torch.from_numpy(part)).numpy() for part in (rows, drawn[rows]))
        numbers[rows] = of_rows
        alone = members[numbers[members] < 0]
        if 0 < len(alone) < len(members):
            numbers[alone] = numbers.max() + 1 + np.arange(len(alone))
        return numbers

    def unknown(self) -> str:
        """Say why nothing is known of any sample."""
        if self._own_batches:
            return "what the batch sampler puts together is known only after it has been drawn"
        return "nothing has been drawn yet, and the sampler does not tell what it will draw (members= does)"

    def elsewhere(self, indices: Tensor) -> np.ndarray:
        """List members that are not in a batch, (n,) int64, as far as that is known before anything has been drawn.

        Args:
            indices: (B,) int64 on the CPU, the batch's.
        """
        members = self.known()
        return np.setdiff1d(np.empty(0, dtype=np.int64) if members is None else members, indices.numpy())

    def _tell(self, count: int, source: str) -> None:
        text = f"{count} of {len(self._table)} samples take part in scan and mixing, by {source}"
        if text != self._told:
            logger.info(text)
            self._told = text
