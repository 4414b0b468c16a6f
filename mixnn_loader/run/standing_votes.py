"""Votes that stand as long as nothing changes that they are of."""

import torch
from torch import Tensor

from mixnn_loader._utils.processes import Processes
from mixnn_loader.model.fingerprint import fingerprint_of, same
from mixnn_loader.run.ask_neighbors import Votes, ask_neighbors
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.settings import Settings

FEW = 2**22
"""So many numbers, 16 MiB, are kept whether or not they will be asked for again."""


class StandingVotes:
    """Asks the neighbors again only where others would be asked, or would say something else.

    Representations of a network in training are others in each scan. Those that are the inputs themselves, such as
    features of a frozen network, or that a frozen part of the model makes, stay as they are, and the search for
    neighbors takes longer than all the rest.
    """

    def __init__(self) -> None:
        self._asked: Tensor | None = None
        self._votes: Votes | None = None

    def ask(
        self, settings: Settings, table: SampleTable, processes: Processes, members: Tensor, usable: Tensor
    ) -> Votes:
        """Do what `ask_neighbors` does, or return what it gave before.

        Where there are many, (n, C) numbers, they are kept from the second time on that they are the same: most
        trainings never ask for them again.
        """
        asked = _what_is_asked(table, members, usable)
        stands = self._asked is not None and same(asked, self._asked)
        if stands and self._votes is not None:
            return _copied(self._votes)
        votes = ask_neighbors(settings, table, processes, members, usable)
        is_kept = stands or votes.shares.numel() <= FEW
        self._asked, self._votes = asked, _copied(votes) if is_kept else None
        return votes


def _copied(votes: Votes) -> Votes:
    """Copy the shares: an estimate of the user's own may change what it gets."""
    return votes._replace(shares=votes.shares.clone())


def _what_is_asked(table: SampleTable, members: Tensor, usable: Tensor) -> Tensor:
    """Return (5,) int64 on the CPU, by which is seen whether anything has changed that votes depend on."""
    representations = table.representations
    parts = (representations, table.given_labels, members, usable.to(torch.uint8))
    hashes = [fingerprint_of(part).cpu() for part in parts]
    width = torch.tensor(representations.shape[1], dtype=torch.int64, device="cpu")
    return torch.stack([*hashes, width])
