"""Uses the votes of the scan before once more, if nothing has changed that they depend on."""

import torch
from torch import Tensor

from mixnn_loader._utils.processes import Processes
from mixnn_loader.model.fingerprint import fingerprint_of, same
from mixnn_loader.run.ask_neighbors import Votes, ask_neighbors, num_asked
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.settings import Settings

FEW = 2**22
"""So many numbers, 16 MiB, are kept whether or not they will be asked for again."""


class StandingVotes:
    """Asks the neighbors, unless representations, labels and samples are those of the time before.

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
        trainings never ask for them again. The kept ones are on the CPU.
        """
        k = num_asked(settings, table, usable)
        asked = what_is_asked(table.representations, table.given_labels, members, usable, k)
        stands = self._asked is not None and same(asked, self._asked)
        # All ask, or none does: they share the search.
        stands = bool(processes.first(torch.tensor(stands, dtype=torch.uint8, device="cpu")))
        if stands and self._votes is not None:
            return self._votes._replace(shares=self._votes.shares.to(usable.device, copy=True))
        votes = ask_neighbors(settings, table, processes, members, usable, k)
        is_kept = stands or votes.shares.numel() <= FEW
        # Copied, here and above: an estimate of the user's own may change what it gets.
        self._asked, self._votes = asked, votes._replace(shares=votes.shares.to("cpu", copy=True)) if is_kept else None
        return votes


def what_is_asked(representations: Tensor, given_labels: Tensor, members: Tensor, usable: Tensor, k: int) -> Tensor:
    """Hash all that votes depend on.

    Args:
        representations: (N, d) of all samples.
        given_labels: (N,) int64.
        members: (n,) int64, who may vote.
        usable: (n,) bool, who of them does.
        k: how many are asked.

    Returns:
        (6,) int64 on the CPU, the same if nothing has changed.
    """
    hashes = [fingerprint_of(part).cpu() for part in (representations, given_labels, members, usable.to(torch.uint8))]
    sizes = torch.tensor([representations.shape[1], k], dtype=torch.int64, device="cpu")
    return torch.cat([torch.stack(hashes), sizes])
