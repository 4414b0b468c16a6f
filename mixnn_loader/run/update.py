"""What a batch changes in the table: held back until the batch has been trained on."""

from dataclasses import dataclass

from torch import Tensor

from mixnn_loader._utils.processes import Processes
from mixnn_loader._utils.transfer import to_device
from mixnn_loader.method.early_learning import prediction
from mixnn_loader.method.receipt import Receipt
from mixnn_loader.method.soft_targets import mean_over_repeats, moving_average
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
        averages: (B, C) float, the moved averages of predictions, likewise; None: they are not moved, or only when the
            batch has been trained on.
        momentum: β, by which the averages take in what the model says in the training step, of a batch that is not
            mixed; None: they do not.
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
    averages: Tensor | None = None
    momentum: float | None = None
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
            table.write("soft_targets", self.indices, self.targets)
        if (averages := self._moved_averages(table)) is not None:
            table.make_averages()
            table.write("averages", self.indices, averages)
        if self.pairs is not None:
            epoch.add_pairs(self.pairs)
        epoch.trained += 1

    def _moved_averages(self, table: SampleTable) -> Tensor | None:
        """Return the averages (B, C) after this batch; None where they stay as they are."""
        logits = self.receipt.logits
        if self.averages is not None or self.momentum is None or logits is None or len(logits) != len(self.indices):
            return self.averages
        kept = table.make_averages()
        before = to_device(kept[to_device(self.indices, kept.device)], logits.device)
        said = mean_over_repeats(prediction(logits.float()), self.indices)
        return moving_average(before, said, self.momentum)
