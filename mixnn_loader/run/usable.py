"""Which samples have a finite loss and a finite representation."""

import torch
from torch import Tensor

from mixnn_loader._utils.memory import CHUNK_ROWS
from mixnn_loader._utils.transfer import to_device
from mixnn_loader.run.sample_table import SampleTable


def is_usable(table: SampleTable, members: Tensor) -> Tensor:
    """Mark the samples with a finite loss and, where representations are kept, a finite one.

    Args:
        table: of the run, or of a scan.
        members: (n,) int64 on the CPU, dataset indices.

    Returns:
        (n,) bool, beside the losses.
    """
    usable = table.losses[to_device(members, table.losses.device)].isfinite()
    if table.has("representations"):
        chunks = torch.split(table.representations, CHUNK_ROWS)
        finite = torch.cat([chunk.isfinite().all(dim=1) for chunk in chunks])
        usable &= to_device(finite[to_device(members, finite.device)], usable.device)
    return usable
