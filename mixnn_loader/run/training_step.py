"""What the training step itself says of its samples, in place of a forward pass of the loader's own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixnn_loader._utils.batch_indices import BatchIndices
from mixnn_loader._utils.transfer import to_device
from mixnn_loader.method.early_learning import changed_predictions, prediction
from mixnn_loader.method.soft_targets import mean_over_repeats, moving_average
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.scan import judged

NOT_TOLD = (
    "scan='training' goes by the logits that MixNNLoss is given, and it was given none of this loader's batches: take "
    "the loss by MixNNLoss()(logits, targets), not compiled, of the batch's targets as they come (not targets.labels "
    "or targets.mixed), and of logits that have a gradient (not of a model all of which is frozen). For a loss of your "
    "own there are MixNNLoss(base=...), and scan='running'"
)

AVERAGES_NOT_TOLD = (
    "averages of predictions are wanted, for the early-learning term or to tell when warm-up is over, and MixNNLoss, "
    "which tells the predictions and adds that term, was not taken of the first batch, or is compiled: take the loss "
    "by MixNNLoss()(logits, targets), of the batch's targets as they come"
)

LEAST_SHARE = 0.5
"""A mix says something of a sample that makes up this share of it, or more."""


@dataclass(frozen=True, kw_only=True)
class TrainingStep:
    """What is taken from the logits that `mixnn_loader.MixNNLoss` gets for one batch of B samples.

    Attributes:
        dominates: (B, 1) bool, whether a sample makes up `LEAST_SHARE` of its mix; None: nothing is mixed.
        averages_momentum: of the averages of predictions; None: they are not kept.
        targets_momentum: of the soft targets (Eq. 12); None: they are not moved.
        losses: whether losses are kept.
        changes: whether samples are counted about which the model has changed its mind; where averages are kept.
    """

    dominates: Tensor | None = None
    averages_momentum: float | None = None
    targets_momentum: float | None = None
    losses: bool = False
    changes: bool = False

    def write(self, table: SampleTable, indices: BatchIndices, labels: Tensor, logits: Tensor) -> Tensor | None:
        """Write it down.

        Args:
            table: the per-sample rows.
            indices: of the batch.
            labels: (B,) int64 on the CPU, their given labels.
            logits: (B, C) float.

        Returns:
            (2,) float32, see `changed_predictions`; None: they are not counted.
        """
        changes = None
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        counts = self._counts(indices, logits.device)
        if self.averages_momentum is not None:
            table.make_averages()
            before, after = _move(table, "averages", indices, prediction(logits), self.averages_momentum, counts)
            if self.changes:
                changes = changed_predictions(before, after)
        if self.targets_momentum is not None:
            _move(table, "soft_targets", indices, logits.softmax(dim=1), self.targets_momentum, counts)
        if self.losses:
            losses, is_other = judged(logits, to_device(labels, logits.device))
            table.record_predictions(indices, losses, is_other, counts=counts)
        return changes

    def _counts(self, indices: BatchIndices, device: torch.device) -> Tensor | None:
        """Tell of which samples the mixes say something, (B,) bool; None: of all.

        A sample that is in the batch more than once has to make up enough of each of its mixes.
        """
        if self.dominates is None:
            return None
        of_all = self.dominates
        if indices.first is not None:
            of_all = mean_over_repeats(self.dominates.float(), indices) == 1
        return of_all.squeeze(1).to(device)


def _move(
    table: SampleTable, name: str, indices: BatchIndices, towards: Tensor, momentum: float, counts: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Move the rows of a batch towards (B, C), those that count; return the rows before and after."""
    kept = table.rows_of(name)
    before = to_device(kept[indices.on(kept.device)], towards.device)
    after = moving_average(before, mean_over_repeats(towards, indices), momentum)
    if counts is not None:
        after = torch.where(counts.unsqueeze(1), after, before)
    table.write(name, indices, after)
    return before, after
