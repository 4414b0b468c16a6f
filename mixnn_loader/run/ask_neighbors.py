"""Asks the neighbors of all samples what their labels are."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader._utils.memory import CHUNK_ROWS
from mixnn_loader._utils.processes import Processes
from mixnn_loader._utils.transfer import to_device
from mixnn_loader.method.votes import vote_shares
from mixnn_loader.neighbors.choose import resolve_search
from mixnn_loader.neighbors.complete import Found, search_all
from mixnn_loader.neighbors.protocol import NeighborSearch
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


def num_asked(settings: Settings, table: SampleTable, usable: Tensor) -> int:
    """Return how many neighbors of each of the usable members are to be asked; 0 where there is nobody to ask."""
    num_rows = int(usable.sum())
    return min(settings.estimator.num_voters(num_rows, table.soft_targets.shape[1]), num_rows - 1)


def ask_neighbors(
    settings: Settings, table: SampleTable, processes: Processes, members: Tensor, usable: Tensor, k: int
) -> Votes:
    """Ask the nearest of each sample, by angle.

    Args:
        settings: the hyper-parameters.
        table: has the representations and the given labels.
        processes: which share the search.
        members: (n,) int64 on the CPU, the dataset indices of those who may vote.
        usable: (n,) bool, who of them does.
        k: how many are asked, see `num_asked`.
    """
    rows = members[usable.cpu()]
    num_classes = table.soft_targets.shape[1]
    if k < 1:
        nobody = torch.zeros(len(members), num_classes, dtype=torch.float32, device=usable.device)
        return Votes(nobody, None, None)
    directions = directions_of(table, rows)
    found = nearest_by_angle(settings.search, directions, k, processes)
    labels = to_device(table.given_labels[rows], directions.device)
    shares = to_device(vote_shares(found.neighbors, labels, num_classes), usable.device)
    if len(rows) < len(members):
        some, shares = shares, torch.zeros(len(members), num_classes, dtype=torch.float32, device=usable.device)
        shares[usable] = some
    return Votes(shares, found.backend, found.recall)


def directions_of(table: SampleTable, rows: Tensor) -> Tensor:
    """Return the representations of some samples, of length one: (n, d) on their device.

    Args:
        table: has them.
        rows: (n,) int64 on the CPU, dataset indices.
    """
    representations = table.representations
    if len(rows) < len(table):
        representations = representations[to_device(rows, representations.device)]
    directions = torch.empty_like(representations)
    # In half precision small norms are 0, and large ones infinite.
    wide = torch.promote_types(representations.dtype, torch.float32)
    chunks = (torch.split(tensor, CHUNK_ROWS) for tensor in (representations, directions))
    for some, made in zip(*chunks, strict=True):
        made.copy_(functional.normalize(some.to(wide), dim=1))
    return directions


def nearest_by_angle(search: str | NeighborSearch, directions: Tensor, k: int, processes: Processes) -> Found:
    """Find the k nearest of each row (n, d), on all processes alike; they share the search.

    Returns:
        Its neighbors are (n, k) row numbers, beside the rows.
    """
    backend = resolve_search(search, num_rows=len(directions), device=directions.device)
    found = search_all(backend, directions, k, processes.own_part(len(directions), directions.device))
    return found._replace(neighbors=processes.gather(found.neighbors))
