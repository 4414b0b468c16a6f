"""Generalized cross-entropy: between cross-entropy and mean absolute error; and its truncated form.

Zhang & Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", NeurIPS 2018.

L_q = (1 - p_y^q) / q, q = 0.7. For q -> 0 this is cross-entropy, for q = 1 mean absolute error.
Truncated: a sample with p_y <= k, k = 0.5, has the constant loss L_q(k), and so no gradient. Which samples these are is
decided anew at times ("pruning"): every 10 of 120 epochs on CIFAR-10, the first time in the 40th; every 10 of 150 on
CIFAR-100, the first time in the 80th. These numbers are scaled with the length of training.

We follow the PyTorch port AlanChou/Truncated-Loss. It prunes with the network of the epoch that was best on test data.
The harness has no clean data to choose by, so we prune with the network as it is, without augmentation. As in the port,
the mean is over the whole batch, with the dropped samples.

Cost: 1 plain training; truncated, also a forward pass over the data each time that it prunes.
"""

import math

import torch
from torch import Tensor

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.task import Task

TINY = 1e-7
"""The gradient of p^q is infinite at 0."""


class GeneralizedCrossEntropy(LossMethod):
    """L_q of every sample.

    Args:
        task: the data, and what to train with.
        q: how far from cross-entropy (0) towards mean absolute error (1).
    """

    def __init__(self, task: Task, *, q: float = 0.7) -> None:
        super().__init__(task)
        self.q = q

    def sample_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return L_q, (B,)."""
        return (1 - label_probability(logits, labels).clamp(min=TINY).pow(self.q)) / self.q

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean of L_q."""
        return self.sample_losses(logits, batch.labels).mean()


class Truncated(GeneralizedCrossEntropy):
    """L_q of the samples whose label the network finds likely.

    Args:
        task: the data, and what to train with.
        q: see `GeneralizedCrossEntropy`.
        threshold: k; samples whose label is not more likely than this are dropped until the next pruning.
        first_pruning: epoch before which the samples are judged first, counted from 1; None: a third of training, or 8
            of 15 for more than 10 classes.
        pruning_interval: epochs between two prunings; None: a twelfth of training, or a fifteenth.

    Attributes:
        judged: (N,) p_y at the last pruning; NaN before the first.
    """

    judged: Tensor

    def __init__(
        self,
        task: Task,
        *,
        q: float = 0.7,
        threshold: float = 0.5,
        first_pruning: int | None = None,
        pruning_interval: int | None = None,
    ) -> None:
        super().__init__(task, q=q)
        self.threshold = threshold
        first, length = (80, 150) if task.num_classes > 10 else (40, 120)
        self.first_pruning = task.epochs_of(first, length) if first_pruning is None else first_pruning
        self.pruning_interval = task.epochs_of(10, length) if pruning_interval is None else pruning_interval
        self.register_buffer("judged", torch.full((task.num_samples,), torch.nan))

    def begin_epoch(self, epoch: int) -> None:
        """Judge the samples, where it is time to."""
        super().begin_epoch(epoch)
        since_first = epoch + 1 - self.first_pruning
        if since_first >= 0 and since_first % self.pruning_interval == 0:
            self.judged.copy_(label_probability(self.task.scan(self.learner).logits, self.task.labels))

    @property
    def kept(self) -> Tensor:
        """(N,) bool, the samples that are trained on: all before the first pruning."""
        return ~(self.judged <= self.threshold)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean of L_q, or of L_q(k) where a sample is dropped, less L_q(k)."""
        at_threshold = (1 - math.pow(self.threshold, self.q)) / self.q
        losses = self.sample_losses(logits, batch.labels) - at_threshold
        return (losses * self.kept[batch.indices]).mean()

    def clean_score(self) -> Tensor | None:
        """Return p_y as it was at the last pruning."""
        return None if self.judged.isnan().any() else self.judged


def label_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Return p_y, (B,), of logits (B, C) and labels (B,)."""
    return torch.softmax(logits, dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)


METHODS: dict[str, MethodFactory] = {"gce": GeneralizedCrossEntropy, "gce-truncated": Truncated}
