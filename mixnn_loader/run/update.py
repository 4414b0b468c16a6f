"""What a batch changes in the table: held back until the batch has been trained on."""

from dataclasses import dataclass

from torch import Tensor

from mixnn_loader._utils.processes import Processes
from mixnn_loader._utils.transfer import to_device
from mixnn_loader.method.receipt import Receipt
from mixnn_loader.run.epoch import Epoch
from mixnn_loader.run.sample_table import SampleTable


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one batch changes.

    Attributes:
        number: the batch's place in the pass.
        receipt: by which the loss tells that the batch has been trained on.
        indices: (B,) int64 on the CPU, the batch's dataset indices.
        labeled: (n,) int64 on the CPU, the dataset indices of all samples whose labels came with it.
        labels: (n,) int64 on the CPU, these labels.
        targets: (B, C) of the table's type, the moved targets, the same for every occurrence of a sample; None: they
            are not moved.
        losses: (B,) float; None: not recorded.
        representations: (B, d) float; None: not recorded.
        pairs: (2,) counts of pairs, as `Epoch.pairs`; None where there are none.
    """

    number: int
    receipt: Receipt
    indices: Tensor
    labeled: Tensor
    labels: Tensor
    targets: Tensor | None = None
    losses: Tensor | None = None
    representations: Tensor | None = None
    pairs: Tensor | None = None

    def write(self, table: SampleTable, epoch: Epoch, processes: Processes) -> None:
        """Write it down, and count the batch as trained on.

        Args:
            table: the per-sample rows.
            epoch: whose batch it is.
            processes: which train together.
        """
        table.record_labels(self.labeled, self.labels)
        table.record_drawn(self.indices, processes.rank, processes.size)
        if self.losses is not None:
            table.record_predictions(self.indices, self.losses, self.representations)
        if self.targets is not None:
            kept = table.soft_targets
            kept[to_device(self.indices, kept.device)] = to_device(self.targets, kept.device, kept.dtype)
        if self.pairs is not None:
            epoch.add_pairs(self.pairs)
        epoch.trained += 1
