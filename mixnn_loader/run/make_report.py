"""What is known of every sample -> a report on the labels."""

import numpy as np
import torch
from torch import Tensor

from mixnn_loader._utils.memory import CHUNK_ROWS
from mixnn_loader._utils.transfer import to_device
from mixnn_loader._utils.warn import warn_user
from mixnn_loader.data.sample_names import class_names, sample_paths
from mixnn_loader.method.judgment import judge, of_given
from mixnn_loader.method.votes import num_voters, vote_shares
from mixnn_loader.report.label_report import LabelReport, as_class_names
from mixnn_loader.report.near_duplicates import contradicting_duplicates
from mixnn_loader.run.ask_neighbors import directions_of, nearest_by_angle
from mixnn_loader.run.parts import Parts
from mixnn_loader.run.sample_history import SampleHistory
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.usable import is_usable


def make_report(parts: Parts, epoch: int, num_neighbors: int, *, representations: bool) -> LabelReport:
    """Scan the dataset, ask the neighbors of each sample, and say what the labels are by these.

    Nothing that the training goes by is changed.

    Args:
        parts: of the loader.
        epoch: by which the scan's random transforms are seeded.
        num_neighbors: how many neighbors of each sample to list.
        representations: whether to add them.

    Warns:
        UserWarning: no batch has been trained on.

    Raises:
        RuntimeError: nothing is known of any sample yet, or none has a finite loss and representation.
    """
    table, members = _scanned(parts, epoch)
    in_progress, finished = parts.schedule.epoch, parts.schedule.finished
    if parts.schedule.number == finished == 0 and (in_progress is None or in_progress.trained == 0):
        warn_user(
            "no batch of this loader has been trained on: the report is by the model as it is, and nothing is known of "
            "how it was trained. Of a model that knows nothing it says nothing"
        )
    rows = _usable(table, members)
    labels, num_classes = table.given_labels[rows], table.soft_targets.shape[1]
    directions = directions_of(table, rows)
    num_asked = num_voters(len(rows), num_classes)
    num_listed = min(num_neighbors, len(rows) - 1)
    own = to_device(labels, directions.device)
    found = torch.empty(len(rows), 0, dtype=torch.int64, device=directions.device)
    if len(rows) > 1:
        num_found = max(num_asked, num_listed)
        found = nearest_by_angle(parts.settings.search, directions, num_found, parts.processes).neighbors
    shares = vote_shares(found[:, :num_asked], own, num_classes)
    predictions = to_device(table.averages[to_device(rows, table.averages.device)], own.device)
    history = SampleHistory.of(parts.table, rows, parts.processes)
    judgment = judge(shares, own, predictions, to_device(history.label_probability, own.device))
    listed = found[:, :num_listed]
    distances = _distances(directions, listed)

    clean = of_given(judgment.probabilities, own)
    confidence, suggested = judgment.probabilities.max(dim=1)
    suggested = torch.where(clean >= confidence, own, suggested)
    expected = len(rows) - float(clean.cpu().double().sum())
    otherwise = (len(rows) - judgment.readings.cpu().double().sum(dim=0)).tolist()
    neighbors, near = rows.numpy()[listed.cpu().numpy()], labels[listed.cpu()]
    order = np.lexsort((-table.losses[rows].cpu().numpy(), -judgment.suspicion.cpu().numpy()))
    dataset = parts.wrapped.dataset
    paths = sample_paths(dataset)
    agreement = (near == suggested.cpu().unsqueeze(1)).float().sum(dim=1) / max(num_listed, 1)
    duplicates = contradicting_duplicates(listed.cpu().numpy(), distances.cpu().numpy(), labels.numpy())
    indices = rows.numpy()[order]
    return LabelReport(
        indices=indices,
        given_labels=labels.numpy()[order],
        suggested_labels=suggested.cpu().numpy()[order],
        clean_probability=clean.cpu().numpy()[order],
        readings=judgment.readings.cpu().numpy()[order],
        confidence=confidence.cpu().numpy()[order],
        losses=table.losses[rows].cpu().numpy()[order],
        wrong_event_share=history.wrong_event_share.numpy()[order],
        label_probability=history.label_probability.numpy()[order],
        neighbors=neighbors[order],
        neighbor_labels=near.numpy()[order],
        agreement=agreement.numpy()[order],
        class_names=as_class_names(class_names(dataset), num_classes),
        paths=None if paths is None else [paths[index] for index in indices],
        transition=judgment.transition.cpu().numpy(),
        num_samples=len(rows),
        dataset_length=len(table),
        wrong_labels=expected,
        wrong_labels_interval=(min(expected, *otherwise), max(expected, *otherwise)),
        duplicates=[rows.numpy()[group] for group in duplicates],
        representations=directions.float().cpu().numpy()[order] if representations else None,
    )


def _scanned(parts: Parts, epoch: int) -> tuple[SampleTable, Tensor]:
    """Return a table of its own, with labels, losses and representations of the members, and these."""
    members = parts.dataset_scan.choose()
    if len(members) == 0:
        raise RuntimeError(f"there is nothing to report before the first epoch: {parts.members.unknown()}")
    table = parts.table.emptied()
    parts.dataset_scan.run(table, epoch, need_representations=True, keep_predictions=True)
    return table, members


def _usable(table: SampleTable, members: Tensor) -> Tensor:
    """Return the dataset indices (n,) of samples with a finite loss and representation, on the CPU."""
    rows = members[is_usable(table, members).cpu()]
    if len(rows) == 0:
        raise RuntimeError("the model gives no sample a finite loss and representation: there is nothing to report")
    if len(rows) < len(members):
        warn_user(
            f"{len(members) - len(rows)} of {len(members)} samples have a NaN or infinite loss or representation; the "
            "report leaves them out"
        )
    return rows


def _distances(directions: Tensor, neighbors: Tensor) -> Tensor:
    """Return the distances of rows (n, d) from their neighbors (n, k), (n, k)."""
    distances = torch.empty(neighbors.shape, dtype=torch.float32, device=directions.device)
    for rows in torch.split(torch.arange(len(directions), device=directions.device), CHUNK_ROWS):
        for place in range(neighbors.shape[1]):  # one after the other: (n, k, d) would be large
            own, others = directions[rows], directions[neighbors[rows, place]]
            apart = torch.linalg.vector_norm((own - others).float(), dim=1)
            # Where the layer says nothing of a sample, it is like no other.
            distances[rows, place] = apart.masked_fill((own == 0).all(dim=1), torch.inf)
    return distances
