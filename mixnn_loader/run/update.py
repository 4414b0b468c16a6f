"""What a batch changes in the table: held back until the batch has been trained on."""

from dataclasses import dataclass

from torch import Tensor

from mixnn_loader._utils.batch_indices import BatchIndices
from mixnn_loader._utils.processes import Processes
from mixnn_loader.method.receipt import Receipt
from mixnn_loader.model.mix_layer import RowMix
from mixnn_loader.run.epoch import Epoch
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.training_step import TrainingStep


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one batch changes.

    Attributes:
        number: the batch's place in the pass.
        receipt: by which the loss tells that the batch has been trained on.
        indices: of the batch.
        labeled: (n,) int64 on the CPU, the dataset indices of all samples whose labels came with it.
        labels: (n,) int64 on the CPU, these labels.
        targets: (B, C) of the table's type, the moved targets, the same for every occurrence of a sample; None: they
            are not moved.
        averages: (B, C) float, the moved averages of predictions, likewise.
        step: what is taken from the training step; None: nothing.
        losses: (B,) float; None: not recorded.
        is_other: (B,) bool, whether another class than the given one was predicted; there where losses are.
        representations: (B, d) float; None: not recorded.
        pairs: (2,) float, counts for `Epoch.pairs`; None where there are none.
        row_mix: how the rows that a layer gives for the batch are mixed; None: they are not.
    """

    number: int
    receipt: Receipt
    indices: BatchIndices
    labeled: Tensor
    labels: Tensor
    targets: Tensor | None = None
    averages: Tensor | None = None
    step: TrainingStep | None = None
    losses: Tensor | None = None
    is_other: Tensor | None = None
    representations: Tensor | None = None
    pairs: Tensor | None = None
    row_mix: RowMix | None = None

    def write(self, table: SampleTable, epoch: Epoch, processes: Processes) -> None:
        """Write it down, and count the batch as trained on.

        Args:
            table: the per-sample rows.
            epoch: whose batch it is.
            processes: which train together.
        """
        table.record_labels(self.labeled, self.labels)
        table.record_drawn(self.indices.host, processes.rank, processes.size)
        if self.losses is not None and self.is_other is not None:
            table.record_predictions(self.indices, self.losses, self.is_other, self.representations)
        if self.targets is not None:
            table.write("soft_targets", self.indices, self.targets)
        if self.averages is not None:
            table.make_averages()
            table.write("averages", self.indices, self.averages)
        self.write_step(table, epoch)
        if self.pairs is not None:
            epoch.pairs.add(self.pairs)
        epoch.trained += 1

    @property
    def is_told(self) -> bool:
        """Whether what is taken from the training step, if anything is, has been told."""
        return self.step is None or self.receipt.logits is not None

    def write_step(self, table: SampleTable, epoch: Epoch | None) -> None:
        """Write down what is taken from the training step, if it has been told.

        Args:
            table: the per-sample rows.
            epoch: the one in progress; None between epochs. Changes count in warm-up alone.
        """
        logits, batch_size = self.receipt.logits, len(self.indices)
        if self.step is not None and logits is not None and len(logits) == batch_size:
            changes = self.step.write(table, self.indices, self.labels[:batch_size], logits)
            if changes is not None and epoch is not None and epoch.phase == "warm-up":
                epoch.changes.add(changes)
