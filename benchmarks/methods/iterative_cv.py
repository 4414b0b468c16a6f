"""Iterative cross-validation (INCV): keep the samples whose label is predicted by a network that has not seen them.

Chen et al., "Understanding and Utilizing Deep Neural Networks Trained with Noisy Labels", ICML 2019. Four rounds,
with a selected set S, empty at first, and candidates V, all samples at first:

1. Split V into halves. Train a network, always from the same initial weights, on S and one half; predict the other
   half. Then the reverse.
2. Candidates that are predicted as labeled join S. In each half the r n candidates of the largest cross-entropy are
   discarded, with n of the half selected, r = min(2, ε / (1 - ε)), and ε the noise rate, which is estimated
   in the first half of the first round, from accuracy = (1 - ε)² + ε² / (C - 1).

The weights are those of the epoch with the best accuracy on the half that is held out in the first round where
ε > 0.6, in the first two where ε > 0.3, else in all four; in the other rounds they are those of the last epoch.
Then two networks are trained by co-teaching on S, of which they leave out the share that is still wrong, ε_S = ε² / (ε²
+ (C - 1) (1 - ε)²), times min(e / T_k, 1) in epoch e = 0, 1, ... From 40 of 200 epochs on (80 where ε > 0.6),
candidates that are left join the batches, in proportion to |V| / |S| and half a batch at most; as many samples are
chosen as without them. For noise that goes from each class to one other nothing is discarded, the 1 of "ε > 0.6" holds,
and (C - 1) in ε_S is 1: ``symmetric=False``.

All this is the official code's. It lets each network of co-teaching choose in eval mode and train on what was chosen
alone; here one forward pass in training mode serves both. A half is trained for 50 epochs against 200 of co-teaching,
both with Adam and steps of their own; here with the recipe's optimizer and schedule.

Cost: 2.5 to 3 plain trainings, of them 2 |S| / N for co-teaching.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch, Batches
from benchmarks.harness.protocol import MethodFactory
from benchmarks.harness.task import Task
from benchmarks.methods.co_teaching import teach_each_other
from benchmarks.methods.common.semi_supervised import endless
from benchmarks.methods.common.two_networks import TwoNetworks

Pair = tuple[Batch, Batch | None]


def noise_rate_of(accuracy: Tensor, num_classes: int) -> Tensor:
    """Solve accuracy = (1 - ε)² + ε² / (C - 1) for ε; the lower of both solutions, () each."""
    factor = num_classes / (num_classes - 1)
    return (1 - (1 - factor * (1 - accuracy)).clamp(min=0).sqrt()) / factor


class IterativeCV(TwoNetworks):
    """Select by cross-validation, then co-teach.

    Args:
        task: the data, and what to train with.
        rounds: of cross-validation.
        symmetric: the noise goes to all classes.
        ramp_epochs: T_k of co-teaching; None: the recipe's warm-up.

    Attributes:
        selected: (N,) bool, S.
        candidate: (N,) bool, V.
        noise_rate: (), ε.
    """

    selected: Tensor
    candidate: Tensor
    discarded: Tensor
    halves: Tensor
    agrees: Tensor
    probability: Tensor
    best_accuracy: Tensor
    noise_rate: Tensor

    def __init__(self, task: Task, *, rounds: int = 4, symmetric: bool = True, ramp_epochs: int | None = None) -> None:
        super().__init__(task)
        self.symmetric = symmetric
        self.ramp_epochs = max(1, task.warmup_epochs if ramp_epochs is None else ramp_epochs)
        self.half_epochs = task.epochs_of(50, 200)
        self.selection_epochs = 2 * rounds * self.half_epochs
        self.num_epochs = self.selection_epochs + task.num_epochs
        self.learner = task.learner(num_epochs=self.half_epochs)
        for name in ("selected", "discarded", "agrees"):
            self.register_buffer(name, torch.zeros(task.num_samples, dtype=torch.bool))
        self.register_buffer("candidate", torch.ones(task.num_samples, dtype=torch.bool))
        self.register_buffer("halves", torch.zeros(task.num_samples, dtype=torch.int64))
        self.register_buffer("probability", torch.zeros(task.num_samples))
        self.register_buffer("best_accuracy", torch.zeros(()))
        self.register_buffer("noise_rate", torch.zeros(()))

    @property
    def is_selecting(self) -> bool:
        """Whether cross-validation is in progress, or else co-teaching."""
        return self.epoch < self.selection_epochs

    @property
    def side(self) -> int:
        """The half that is trained on, 0 or 1."""
        return self.epoch // self.half_epochs % 2

    @property
    def round(self) -> int:
        """The round of cross-validation, counted from 0."""
        return self.epoch // self.half_epochs // 2

    @property
    def held_out(self) -> Tensor:
        """Indices of the candidates that the network in training does not see."""
        return (self.candidate & (self.halves == 1 - self.side)).nonzero().squeeze(1)

    def begin_epoch(self, epoch: int) -> None:
        """Split the candidates, and start a network anew, where it is time."""
        super().begin_epoch(epoch)
        if self.is_selecting and epoch % self.half_epochs == 0:
            self.learner = self.task.learner(num_epochs=self.half_epochs)
            self.best_accuracy.fill_(-1)
            if self.side == 0:
                candidates = self.candidate.nonzero().squeeze(1)
                order = torch.randperm(len(candidates), device=candidates.device)
                self.halves[candidates[order]] = (
                    torch.arange(len(order), device=order.device) >= len(order) // 2
                ).long()

    def batches(self) -> Iterable[Pair]:
        """Return batches, each with one of further candidates or None."""
        if self.is_selecting:
            trained = self.selected | (self.candidate & (self.halves == self.side))
            return ((batch, None) for batch in self._loader(trained))
        batch_size = self.task.recipe.batch_size
        share = int(self.candidate.sum()) / max(1, int(self.selected.sum()))
        size = min(int(share * batch_size), batch_size // 2)
        if self.epoch - self.selection_epochs <= self.task.epochs_of(self._by_noise(80, 40, 40), 200) or size == 0:
            return ((batch, None) for batch in self._loader(self.selected))
        others = self._loader(self.candidate, batch_size=size, stream=1)
        return zip(self._loader(self.selected), endless(others), strict=False)

    def step(self, pair: Pair) -> None:
        """Take a step with the network of cross-validation, or with both of co-teaching."""
        batch, others = pair
        batch = batch.to(self.task.device)
        if self.is_selecting:
            self.learner.step(functional.cross_entropy(self.learner(batch.inputs), batch.labels))
            return
        wrong, right = self.noise_rate.item() ** 2, (1 - self.noise_rate.item()) ** 2
        still_wrong = wrong / (wrong + (self.task.num_classes - 1 if self.symmetric else 1) * right)
        kept = 1 - still_wrong * min((self.epoch - self.selection_epochs) / self.ramp_epochs, 1)
        count = max(1, round(kept * len(batch)))
        if others is not None:
            batch = _joined(batch, others.to(self.task.device))
        teach_each_other(self.first, self.second, batch, count)

    def end_epoch(self, epoch: int) -> None:
        """Lower the learning rates; in cross-validation, test, and select at the end of a round."""
        if not self.is_selecting:
            super().end_epoch(epoch)
            return
        self.learner.scheduler.step()
        is_last = (epoch + 1) % self.half_epochs == 0
        keeps_best = self.round < self._by_noise(1, 2, 4)
        if (keeps_best or is_last) and len(self.held_out) > 0:
            self._test(keeps_best=keeps_best)
        if is_last:
            self.discard_worst()
            if self.side == 1:
                self.selected |= self.candidate & self.agrees
                self.candidate &= ~(self.selected | self.discarded)

    def clean_score(self) -> Tensor:
        """Return 2 for selected samples, 1 for candidates, and the probability of the label in its last test."""
        return 2 * self.selected.float() + self.candidate.float() + self.probability

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the softmax of the network in training, the first one in co-teaching."""
        return torch.softmax(self.learner(inputs), dim=1) if self.is_selecting else super().predict(inputs)

    def _by_noise(self, much: int, some: int, little: int) -> int:
        if not self.symmetric or self.noise_rate > 0.6:
            return much
        return some if self.noise_rate > 0.3 else little

    def _loader(self, mask: Tensor, *, batch_size: int | None = None, stream: int = 0) -> Batches:
        return self.task.batches(subset=mask.nonzero().squeeze(1), batch_size=batch_size, stream=stream)

    def _test(self, *, keeps_best: bool) -> None:
        """Predict what is held out, and keep it where it is the best so far or where the last counts."""
        indices = self.held_out
        probabilities = self.task.scan(self.learner, indices).logits.softmax(dim=1)
        labels = self.task.labels[indices]
        agrees = probabilities.argmax(dim=1) == labels
        accuracy = agrees.float().mean()
        if keeps_best and accuracy <= self.best_accuracy:
            return
        self.best_accuracy.copy_(accuracy)
        self.agrees[indices] = agrees
        self.probability[indices] = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)

    def discard_worst(self) -> None:
        """Estimate the noise rate where it is time, and discard the worst of what is held out."""
        if self.round == 0 and self.side == 0:
            self.noise_rate.copy_(noise_rate_of(self.best_accuracy, self.task.num_classes))
        if not self.symmetric:
            return
        indices = self.held_out
        ratio = min(2.0, self.noise_rate.item() / (1 - self.noise_rate.item()))
        count = int(ratio * int(self.agrees[indices].sum()))
        self.discarded[indices[self.probability[indices].argsort()[:count]]] = True


def _joined(batch: Batch, other: Batch) -> Batch:
    return Batch(
        torch.cat([batch.inputs, other.inputs]),
        torch.cat([batch.labels, other.labels]),
        torch.cat([batch.indices, other.indices]),
    )


METHODS: dict[str, MethodFactory] = {"iterative-cv": IterativeCV}
