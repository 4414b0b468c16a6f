"""LRT (AdaCorr): a label is replaced where a likelihood ratio test rejects it.

Zheng et al., "Error-Bounded Correction of Noisy Labels", ICML 2020. q is the mean of what the last 10 epochs'
training passes predicted for a sample, y its present label. After every epoch from the 30th on,

    y <- argmax q,    if argmax q differs from y and max q / q_y > δ,    δ = 1.2 + 0.02 a further epoch.

From the 25th epoch on, L = -log p_y + L_retro with

    L_retro = -(rho - ε / (C-1)) log p_r - ε Σ_{c≠r} log p_c,    rho = 0.9, ε = 1e-4,

r the label that the sample had when r was taken: at the 25th epoch and 40 epochs later. The released code writes
L_retro with a matrix for each sample. Its rows are constant, so that this is what remains of it.

Published: 180 epochs; the correction starts 5 epochs after L_retro, which starts at epoch 25; with 80 % noise at 20 on
CIFAR-10, 30 on CIFAR-100. (Under asymmetric noise it is 20 on CIFAR-10; on MNIST 10, or 5 under 80 % or asymmetric
noise.) All epochs are scaled, and so is the growth of δ. The code trains with RAdam, which it builds anew in every
epoch; here with the recipe's optimizer.

Cost: 1 plain training. State: N x C x the averaged epochs.
"""

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.task import Task

PUBLISHED_EPOCHS = 180
DELAY = 5
HEAVY_NOISE = 0.8


class LRT(LossMethod):
    """Training with the test.

    Args:
        task: the data, and what to train with.
        start: first epoch with L_retro, of 180; None: as published for the number of classes and the noise.
        interval: after so many epochs its labels are taken anew, of 180.
        window: predictions of so many epochs are averaged, of 180.
        delta: δ before it grows.
        growth: of δ in an epoch, of 180.
        rho: weight of the label in L_retro.
        epsilon: ε, weight of all other classes in L_retro.
    """

    labels: Tensor
    retro_labels: Tensor
    predictions: Tensor

    def __init__(
        self,
        task: Task,
        *,
        start: int | None = None,
        interval: int = 40,
        window: int = 10,
        delta: float = 1.2,
        growth: float = 0.02,
        rho: float = 0.9,
        epsilon: float = 1e-4,
    ) -> None:
        super().__init__(task)
        if start is None:
            start = 25 if task.noise_rate < HEAVY_NOISE else 30 if task.num_classes > 10 else 20
        self.delta, self.rho, self.epsilon = delta, rho, epsilon
        self.growth = growth * PUBLISHED_EPOCHS / task.num_epochs
        self.start = task.epochs_of(start, PUBLISHED_EPOCHS)
        self.second_start = self.start + task.epochs_of(interval, PUBLISHED_EPOCHS)
        self.correction_start = task.epochs_of(start + DELAY, PUBLISHED_EPOCHS)
        self.window = min(task.epochs_of(window, PUBLISHED_EPOCHS), self.correction_start)
        self.register_buffer("labels", task.labels.clone())
        self.register_buffer("retro_labels", task.labels.clone())
        self.register_buffer("predictions", torch.zeros(self.window, task.num_samples, task.num_classes))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the loss with the labels as they are, and keep the predictions."""
        self.predictions[self.epoch % self.window, batch.indices] = logits.detach().softmax(dim=1)
        loss = functional.cross_entropy(logits, self.labels[batch.indices])
        if self.epoch < self.start:
            return loss
        return loss + retroactive_loss(logits, self.retro_labels[batch.indices], self.rho, self.epsilon)

    def end_epoch(self, epoch: int) -> None:
        """Take the labels of L_retro where it is time, test all labels, and lower the learning rate."""
        super().end_epoch(epoch)
        if epoch + 1 in (self.start, self.second_start):
            self.retro_labels.copy_(self.labels)
        if epoch >= self.correction_start:
            threshold = self.delta + self.growth * (epoch + 1 - self.correction_start)
            self.labels.copy_(replace_rejected(self.labels, self.predictions.mean(dim=0), threshold))

    def clean_score(self) -> Tensor:
        """Return q of the given label over max q, what the test compares."""
        mean = self.predictions.mean(dim=0)
        return mean.gather(1, self.task.labels.unsqueeze(1)).squeeze(1) / mean.max(dim=1).values.clamp(min=1e-12)

    def corrected_labels(self) -> Tensor:
        """Return the labels as they are now."""
        return self.labels


def replace_rejected(labels: Tensor, predictions: Tensor, threshold: float) -> Tensor:
    """Replace the labels that the test rejects.

    Args:
        labels: (N,) int64, present labels.
        predictions: (N, C), q.
        threshold: δ.

    Returns:
        (N,) int64.
    """
    largest, best = predictions.max(dim=1)
    own = predictions.gather(1, labels.unsqueeze(1)).squeeze(1)
    return torch.where(largest > threshold * own, best, labels)


def retroactive_loss(logits: Tensor, labels: Tensor, rho: float, epsilon: float) -> Tensor:
    """Return the mean of L_retro, from logits (B, C) and the earlier labels (B,)."""
    log_p = logits.log_softmax(dim=1)
    own = log_p.gather(1, labels.unsqueeze(1)).squeeze(1)
    weight = rho - epsilon / (logits.shape[1] - 1)
    return -(weight * own + epsilon * (log_p.sum(dim=1) - own)).mean()


METHODS: dict[str, MethodFactory] = {"lrt": LRT}
