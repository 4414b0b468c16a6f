"""Asks the neighbors of all samples what their labels are."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader._utils.processes import Processes
from mixnn_loader._utils.transfer import to_device
from mixnn_loader.method.votes import vote_shares
from mixnn_loader.neighbors.choose import resolve_search
from mixnn_loader.neighbors.complete import search_all
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.settings import Settings


class Votes(NamedTuple):
    """What the neighbors say.

    Attributes:
        shares: (n, C) float32, of the labels; zeros for a sample of whom nobody was asked.
        backend: how the neighbors were found; None: nobody was asked.
        recall: of the search; None where nobody has measured it.
    """

    shares: Tensor
    backend: str | None
    recall: float | None


def ask_neighbors(
    settings: Settings, table: SampleTable, processes: Processes, members: Tensor, usable: Tensor
) -> Votes:
    """Ask the nearest of each sample, by angle.

    Args:
        settings: the hyper-parameters.
        table: has the representations and the given labels.
        processes: which share the search.
        members: (n,) int64 on the CPU, the dataset indices of those who may vote.
        usable: (n,) bool, who of them does.
    """
    rows = members[usable.cpu()]
    num_classes = table.soft_targets.shape[1]
    k = min(settings.estimator.num_voters(len(rows), num_classes), len(rows) - 1)
    if k < 1:
        nobody = torch.zeros(len(members), num_classes, dtype=torch.float32, device=usable.device)
        return Votes(nobody, None, None)
    representations = table.representations
    if len(rows) < len(table):
        representations = representations[to_device(rows, representations.device)]
    directions = functional.normalize(representations, dim=1)
    search = resolve_search(settings.search, num_rows=len(rows), device=directions.device)
    found = search_all(search, directions, k, processes.own_part(len(rows), directions.device))
    labels = to_device(table.given_labels[rows], directions.device)
    neighbors = to_device(processes.gather(found.neighbors.cpu()), labels.device)
    shares = to_device(vote_shares(neighbors, labels, num_classes), usable.device)
    if len(rows) < len(members):
        some, shares = shares, torch.zeros(len(members), num_classes, dtype=torch.float32, device=usable.device)
        shares[usable] = some
    return Votes(shares, found.backend, found.recall)
