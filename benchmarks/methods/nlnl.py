"""NLNL: learn what a sample is not, then select, then correct.

Kim et al., "NLNL: Negative Learning for Noisy Labels", ICCV 2019. A label c that is drawn at random from the others is
wrong for the sample far more seldom than the given one. Five trainings in a row, in epochs of the paper's code, which
stand against the 300 of a plain training in MixNN's comparison:

1. NL, 720: L = w_y (-log max(1 - p_c, 1e-5)), c != y drawn anew each time; 1 draw for 10 classes, 110 for 100, of
   which the losses are added up.
2. SelNL, 720: the same, only for samples whose mean of p_y over the last 10 epochs is 1 / C at least.
3. SelPL, 720: L = w_y (-log p_y), only for samples whose mean of p_y is 0.5 at least.
4. A new network, 480: the same on the samples that are selected in the end, whose set stays as it is.
5. Another, 480: cross-entropy with soft targets, the mean of the fourth's p over its last 10 epochs, w by the
   target's largest entry.

w_y = (size of the largest class) / (size of class y), among the samples that are trained on from the fourth on. All of
p is from the forward passes of training. In the first three the learning rate is constant, at the recipe's highest
(0.02 published); the last two follow the recipe's schedule (published: 0.1, a tenth of it after 192 and 288 epochs).
Losses are means over the samples that are selected, in the third and the fourth weighted means, all as in the official
code.

Cost: 10.4 plain trainings; ``length`` makes all five shorter.
"""

from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.schedules import factor
from benchmarks.harness.task import Task

NL, SEL_NL, SEL_PL, PSEUDO, FINAL = range(5)
PUBLISHED_EPOCHS, PUBLISHED_PLAIN = (720, 720, 720, 480, 480), 300


def class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Return the size of the largest class over that of each (C,); 0 for those without samples."""
    counts = labels.bincount(minlength=num_classes).float()
    return torch.where(counts > 0, counts.max() / counts.clamp(min=1), 0.0)


class NLNL(LossMethod):
    """Negative learning, selective negative and positive learning, and pseudo-labels.

    Args:
        task: the data, and what to train with.
        draws: complementary labels of a sample and step; None: 1 up to ten classes, 110 for more.
        cut: the mean of p_y from which on SelPL takes a sample.
        window: epochs of a mean.
        length: of all trainings, as a share of the published length.
    """

    recent: Tensor
    soft_targets: Tensor

    def __init__(
        self, task: Task, *, draws: int | None = None, cut: float = 0.5, window: int = 10, length: float = 1.0
    ) -> None:
        super().__init__(task)
        self.draws = (110 if task.num_classes > 10 else 1) if draws is None else draws
        self.cut = cut
        self.lengths = [max(1, round(length * task.epochs_of(epochs, PUBLISHED_PLAIN))) for epochs in PUBLISHED_EPOCHS]
        self.ends = list(accumulate(self.lengths))
        self.num_epochs = self.ends[-1]
        self.register_buffer("recent", torch.full((task.num_samples, window), torch.nan))
        self.register_buffer("soft_targets", torch.zeros(task.num_samples, task.num_classes))

    @property
    def phase(self) -> int:
        """The training in progress."""
        return sum(self.epoch >= end for end in self.ends[:-1])

    @property
    def epoch_of_phase(self) -> int:
        """The epoch of this training, counted from 0."""
        return self.epoch - (self.ends[self.phase] - self.lengths[self.phase])

    def begin_epoch(self, epoch: int) -> None:
        """Set the learning rate and the class weights; build a new network where it is time."""
        super().begin_epoch(epoch)
        lr, labels = self.task.recipe.lr, self.task.labels
        if self.phase >= PSEUDO:
            if self.epoch_of_phase == 0:
                self.learner = self.task.learner()
            lr *= factor(self.task.recipe.schedule, self.epoch_of_phase, self.lengths[self.phase])
            labels = labels[self.confidence() >= self.cut] if self.phase == PSEUDO else self.soft_targets.argmax(dim=1)
        self.learner.set_lr(lr)
        self.weights = class_weights(labels, self.task.num_classes)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the loss of the training in progress, and note the predictions."""
        confidence = self.confidence(batch.indices)
        self._note(logits.detach().softmax(dim=1), batch)
        if self.phase == FINAL:
            targets = self.soft_targets[batch.indices]
            losses = functional.cross_entropy(logits, targets, reduction="none")
            return (losses * self.weights[targets.argmax(dim=1)]).mean()
        weights = self.weights[batch.labels]
        if self.phase >= SEL_PL:
            weights = weights * (confidence >= self.cut)
            losses = functional.cross_entropy(logits, batch.labels, reduction="none")
            return (losses * weights).sum() / weights.sum().clamp(min=1e-8)
        selected = torch.ones_like(confidence) if self.phase == NL else (confidence >= 1 / logits.shape[1]).float()
        losses = self.negative_losses(logits, batch.labels) * weights
        return (losses * selected).sum() / selected.sum().clamp(min=1)

    def negative_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of -log(1 - p_c) over complementary labels, drawn at random (B,)."""
        size, num_classes = logits.shape
        shifts = torch.randint(1, num_classes, (size, self.draws), device=logits.device)
        drawn = (labels.unsqueeze(1) + shifts) % num_classes
        return -(1 - logits.softmax(dim=1)).clamp(1e-5, 1).log().gather(1, drawn).sum(dim=1)

    def end_epoch(self, epoch: int) -> None:
        """Leave the learning rate as it is: `begin_epoch` sets it."""

    def confidence(self, indices: Tensor | None = None) -> Tensor:
        """Return the mean of p_y over the last epochs of the first three trainings, for some samples or all."""
        return (self.recent if indices is None else self.recent[indices]).nanmean(dim=1)

    def clean_score(self) -> Tensor:
        """Return the mean of p_y over the last epochs of the first three trainings."""
        return self.confidence().nan_to_num(nan=0.0)

    def corrected_labels(self) -> Tensor | None:
        """Return the largest entry of each soft target, once there are any."""
        return self.soft_targets.argmax(dim=1) if self.soft_targets.any() else None

    def _note(self, probabilities: Tensor, batch: Batch) -> None:
        """Keep p_y in the first three trainings, and add up p at the end of the fourth."""
        window = self.recent.shape[1]
        if self.phase < PSEUDO:
            own = probabilities.gather(1, batch.labels.unsqueeze(1)).squeeze(1)
            self.recent[batch.indices, self.epoch % window] = own
        averaged = min(window, self.lengths[PSEUDO])
        if self.phase == PSEUDO and self.epoch_of_phase >= self.lengths[PSEUDO] - averaged:
            self.soft_targets[batch.indices] += probabilities / averaged


METHODS: dict[str, MethodFactory] = {"nlnl": NLNL}
