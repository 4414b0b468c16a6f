"""ELR+: early-learning regularization with two networks, averaged weights and mixup.

Liu, Niles-Weed, Razavian & Fernandez-Granda, "Early-Learning Regularization Prevents Memorization of Noisy Labels",
NeurIPS 2020. For each of two networks, t holds a target for every sample, from t = 0:

    t <- β t + (1 - β) p', p' by the running average of the *other* network's weights, on the sample unmixed
    L = cross-entropy of the mixed label + λ * mean log(1 - <t_mixed, p>), p clipped to [1e-4, 1 - 1e-4]

Inputs, labels and t are mixed alike (mixup, share max(l, 1 - l), l from Beta(1, 1)). For 100 classes the mixed label is
multiplied by t_mixed and normalized, and λ rises as exp(-5 (1 - s)²). The decay of the averaged weights, 0.997, rises
in the same way. Both do so over 40,000 steps: 102 epochs, of 200 on CIFAR-10 and of 250 on CIFAR-100.

Published: CIFAR-10 β = 0.7, λ = 3 (asymmetric noise: 0.9, 1); CIFAR-100 β = 0.9, λ = 7. This follows the official code:
the networks take turns by epochs, and the trained networks predict, not the averaged ones, by the mean of their logits.
The 102 epochs are scaled.

Cost: 2 (3 + 1) / 3 = 2.67 plain trainings.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.learner import Learner
from benchmarks.harness.protocol import MethodFactory
from benchmarks.harness.task import Task
from benchmarks.methods.common.semi_supervised import average_weights, mix, ramp_up
from benchmarks.methods.common.two_networks import TwoNetworksTogether

RAMP_EPOCHS = 40_000 / 391
"""Published in steps, of 391 an epoch."""
CLIP = 1e-4


class ELRPlus(TwoNetworksTogether):
    """Two networks, each with targets by the other one's averaged weights.

    Args:
        task: the data, and what to train with.
        beta: β, momentum of the targets; None: 0.7, and 0.9 for more than 10 classes.
        strength: λ, weight of the regularizer; None: 3, and 7 for more than 10 classes.
        alpha: of mixup's Beta distribution.
        decay: of the averaged weights.
        refine_labels: multiply labels by targets, and let λ rise; None: for more than 10 classes.

    Attributes:
        steps: that the network in turn has taken.
    """

    targets: Tensor

    def __init__(
        self,
        task: Task,
        *,
        beta: float | None = None,
        strength: float | None = None,
        alpha: float = 1.0,
        decay: float = 0.997,
        refine_labels: bool | None = None,
    ) -> None:
        super().__init__(task)
        has_many_classes = task.num_classes > 10
        self.beta = beta if beta is not None else 0.9 if has_many_classes else 0.7
        self.strength = strength if strength is not None else 7.0 if has_many_classes else 3.0
        self.refine_labels = has_many_classes if refine_labels is None else refine_labels
        self.alpha, self.decay = alpha, decay
        # Learners for the sake of autocast; nothing optimizes these.
        self.first_average, self.second_average = task.learner(), task.learner(member=1)
        self.register_buffer("targets", torch.zeros(2, task.num_samples, task.num_classes))
        ramp_epochs = task.epochs_of(RAMP_EPOCHS, 250 if has_many_classes else 200)
        self.ramp_steps = ramp_epochs * len(self._batches)
        self.steps = 0

    @property
    def averages(self) -> tuple[Learner, Learner]:
        """Both networks with averaged weights."""
        return self.first_average, self.second_average

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """Return (0, batch) for the first network, and then (1, batch) for the second."""
        for member in range(2):
            self.steps = self.epoch * len(self._batches)
            for batch in self._batches:
                yield member, batch

    def step(self, batch: tuple[int, Batch]) -> None:
        """Train one of the networks on a batch."""
        member, samples = batch
        samples = samples.to(self.task.device)
        learner = self.learners[member]
        self.steps += 1
        risen = ramp_up(self.steps, self.ramp_steps)
        targets = self.update_targets(member, samples)
        mixed = mix(samples.inputs, self.task.one_hot(samples.labels), self.alpha)
        mixed_targets = mixed.share * targets + (1 - mixed.share) * targets[mixed.partners]
        labels = refined(mixed.targets, mixed_targets) if self.refine_labels else mixed.targets
        strength = self.strength * risen if self.refine_labels else self.strength
        learner.step(elr_loss(learner(mixed.inputs), labels, mixed_targets, strength))
        average_weights(self.averages[member].network, learner.network, self.decay * risen)

    @torch.no_grad()
    def update_targets(self, member: int, batch: Batch) -> Tensor:
        """Move a network's targets towards what the other one's averaged weights predict; return them, (B, C)."""
        predicted = torch.softmax(self.averages[1 - member](batch.inputs), dim=1)
        targets = self.beta * self.targets[member, batch.indices] + (1 - self.beta) * predicted
        self.targets[member, batch.indices] = targets
        return targets

    def clean_score(self) -> Tensor:
        """Return the targets at the given labels, the mean of both networks'."""
        return self.targets.mean(dim=0).gather(1, self.task.labels.unsqueeze(1)).squeeze(1)

    def corrected_labels(self) -> Tensor:
        """Return the largest entries of the targets."""
        return self.targets.mean(dim=0).argmax(dim=1)


def elr_loss(logits: Tensor, labels: Tensor, targets: Tensor, strength: float) -> Tensor:
    """Return the loss of a batch; logits, (soft) labels and targets (B, C)."""
    predicted = logits.softmax(dim=1).clamp(CLIP, 1 - CLIP)
    regularizer = torch.log(1 - (targets * predicted).sum(dim=1)).mean()
    return functional.cross_entropy(logits, labels) + strength * regularizer


def refined(labels: Tensor, targets: Tensor) -> Tensor:
    """Return labels times targets, (B, C), so that each row sums to 1."""
    product = labels * targets.clamp(min=torch.finfo(targets.dtype).tiny)
    return product / product.sum(dim=1, keepdim=True)


METHODS: dict[str, MethodFactory] = {"elr-plus": ELRPlus}
