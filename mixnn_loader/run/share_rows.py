"""What each process has learned of its own samples -> the same rows on all processes."""

import torch
from torch import Tensor

from mixnn_loader._utils.processes import Processes
from mixnn_loader.run.sample_table import SampleTable


def share_predictions(table: SampleTable, rows: Tensor, processes: Processes, device: torch.device) -> list[Tensor]:
    """Take over the labels, losses, history, representations and drawn batches of the other processes.

    Of a sample that several processes have, what the one of the lowest rank says counts.

    Args:
        table: the per-sample rows.
        rows: (n,) int64 on the CPU, distinct: the samples of which this process has recorded something.
        processes: which share the samples.
        device: the model's.

    Returns:
        The ``rows`` of each process.
    """
    rows_of = rows_of_all(rows, processes)
    _share_labels(table, rows_of, processes)
    for column in (table.losses, table.times_asked, table.wrong_events, table.probability_sums):
        share_column(column, rows_of, processes)
    share_column(table.last_batch, rows_of, processes)
    width = table.representations.shape[1] if table.has("representations") else 0
    width = int(processes.gather(torch.tensor([width], dtype=torch.int64, device="cpu")).max())
    if width > 0:
        share_column(table.make_representations(width, device), rows_of, processes)
    return rows_of


def rows_of_all(rows: Tensor, processes: Processes) -> list[Tensor]:
    """Return the ``rows`` (n,) of each process."""
    chunks = list(processes.exchange(rows))
    return [torch.cat([rows[:0], *(parts[rank] for _, parts in chunks)]) for rank in range(processes.size)]


def average_rows(values: Tensor, rows_of: list[Tensor], processes: Processes) -> None:
    """Take over the soft targets, or averages of predictions, that the other processes have moved.

    A sample that several have moved, such as those with which `torch.utils.data.DistributedSampler` fills up its last
    batch, gets the mean of what they made of it. They started from one target: it is a step towards the mean of their
    predictions, as for a sample that is in a batch twice.

    Args:
        values: (N, C), changed in place.
        rows_of: (n,) int64 on the CPU of each process, distinct: the samples that it has moved.
        processes: which share the samples.
    """
    counts = torch.zeros(len(values), dtype=torch.int64, device="cpu")
    for rows in rows_of:
        counts[rows] += 1
    shared = counts > 1
    own = rows_of[processes.rank]
    # Of those that just one has moved there is nothing to add up, and rounding would add up.
    sums = torch.zeros(int(shared.sum()), values.shape[1], dtype=torch.float64, device=values.device)
    place = shared.cumsum(dim=0) - 1  # of a shared sample in `sums`
    shared_of = [rows[shared[rows]] for rows in rows_of]
    for chunk, parts in processes.exchange(values[own[shared[own]].to(values.device)]):
        # One process after the other, so that the sums are the same everywhere, to the last bit.
        for rows, part in zip(shared_of, parts, strict=True):
            sums[place[rows[chunk]].to(values.device)] += part
    share_column(values, rows_of, processes)
    everyone = shared.nonzero().flatten()
    means = sums / counts[everyone].to(values.device).unsqueeze(1)
    values[everyone.to(values.device)] = means.to(values.dtype)


def _share_labels(table: SampleTable, rows_of: list[Tensor], processes: Processes) -> None:
    num_classes = torch.tensor([table.num_classes or 0], dtype=torch.int64, device="cpu")
    if (widest := int(processes.gather(num_classes).max())) > 0:
        table.set_num_classes(widest)
    labels = table.given_labels.clone()
    share_column(labels, rows_of, processes)
    new = ((table.given_labels < 0) & (labels >= 0)).nonzero().flatten()
    if len(new) > 0:
        table.record_labels(new, labels[new])


def share_column(values: Tensor, rows_of: list[Tensor], processes: Processes) -> None:
    """Write the rows that each process has of ``values`` (N, ...) on all, in place."""
    taken = torch.zeros(len(values), dtype=torch.bool, device="cpu")
    counting = []
    for rows in rows_of:
        counting.append(~taken[rows])
        taken[rows] = True
    for chunk, parts in processes.exchange(values[rows_of[processes.rank].to(values.device)]):
        for rows, counts, part in zip(rows_of, counting, parts, strict=True):
            places, kept = rows[chunk][counts[chunk]], counts[chunk].to(values.device)
            values[places.to(values.device)] = part[kept]
