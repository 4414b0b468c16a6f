"""Active-passive losses: a normalized loss, which is robust but learns little, and one that helps it to learn.

Ma et al., "Normalized Loss Functions for Deep Learning with Noisy Labels", ICML 2020.

L = α active + β passive. Active: NCE = log p_y / Σ_c log p_c; or NFL, with the focal loss -(1 - p_c)^g log p_c in place
of each -log p_c, g = 0.5. Passive: MAE = 1 - p_y, or RCE = -log(1e-4) (1 - p_y). The two pairs here:

- NFL + MAE: α = β = 1 on CIFAR-10; α = 10, β = 1 on CIFAR-100;
- NCE + RCE: α = β = 1 on CIFAR-10; α = 10, β = 0.1 on CIFAR-100.

On MNIST both have α = 1, β = 10 in the official code. A method knows the number of classes, but not the dataset: this
has to be asked for.

We follow the official code (HanxunH/Active-Passive-Losses): no gradient flows through (1 - p_c)^g, MAE is half of the
sum of absolute differences, and the norm of the gradient is cut off at 5, as in its configurations.

Cost: 1 plain training.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.task import Task
from benchmarks.methods.gce import label_probability

LOG_ZERO = math.log(1e-4)


class ActivePassive(LossMethod):
    """L = α active + β passive.

    Args:
        task: the data, and what to train with.
        active: ``(logits (B, C), labels (B,)) -> losses (B,)``, and so is ``passive``.
        passive: see there.
        alpha: weight of the active loss.
        beta: weight of the passive loss.
        max_gradient_norm: of the whole network's gradient.
    """

    def __init__(
        self,
        task: Task,
        active: "SampleLosses",
        passive: "SampleLosses",
        *,
        alpha: float,
        beta: float,
        max_gradient_norm: float,
    ) -> None:
        super().__init__(task)
        self.active, self.passive = active, passive
        self.alpha, self.beta = alpha, beta
        self.max_gradient_norm = max_gradient_norm

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the weighted mean of both."""
        active, passive = self.active(logits, batch.labels), self.passive(logits, batch.labels)
        return (self.alpha * active + self.beta * passive).mean()

    def step(self, batch: Batch) -> None:
        """Take a step down the gradient, not a longer one than allowed."""
        batch = batch.to(self.task.device)
        self.learner.optimizer.zero_grad()
        torch.autograd.backward(self.loss(self.learner(batch.inputs), batch))
        nn.utils.clip_grad_norm_(self.learner.network.parameters(), self.max_gradient_norm)
        self.learner.optimizer.step()


SampleLosses = Callable[[Tensor, Tensor], Tensor]
"""``(logits (B, C), labels (B,)) -> losses (B,)``."""


def normalized_focal(logits: Tensor, labels: Tensor, gamma: float = 0.5) -> Tensor:
    """Return NFL, (B,); NCE for g = 0."""
    log_probabilities = functional.log_softmax(logits, dim=1)
    by_class = -((1 - log_probabilities.detach().exp()) ** gamma) * log_probabilities
    return by_class.gather(1, labels.unsqueeze(1)).squeeze(1) / by_class.sum(dim=1)


def normalized_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return NCE, (B,)."""
    return normalized_focal(logits, labels, gamma=0.0)


def absolute_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Return MAE, (B,)."""
    return 1 - label_probability(logits, labels)


def reverse_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return RCE, (B,)."""
    return -LOG_ZERO * absolute_error(logits, labels)


def nfl_mae(
    task: Task, *, alpha: float | None = None, beta: float = 1.0, gamma: float = 0.5, max_gradient_norm: float = 5.0
) -> ActivePassive:
    """Train by the normalized focal loss and mean absolute error; None: as published for so many classes."""

    def active(logits: Tensor, labels: Tensor) -> Tensor:
        return normalized_focal(logits, labels, gamma)

    alpha = _published(task, 1.0, 10.0) if alpha is None else alpha
    return ActivePassive(task, active, absolute_error, alpha=alpha, beta=beta, max_gradient_norm=max_gradient_norm)


def nce_rce(
    task: Task, *, alpha: float | None = None, beta: float | None = None, max_gradient_norm: float = 5.0
) -> ActivePassive:
    """Train by normalized and by reverse cross-entropy; None: as published for so many classes."""
    alpha = _published(task, 1.0, 10.0) if alpha is None else alpha
    beta = _published(task, 1.0, 0.1) if beta is None else beta
    return ActivePassive(
        task,
        normalized_cross_entropy,
        reverse_cross_entropy,
        alpha=alpha,
        beta=beta,
        max_gradient_norm=max_gradient_norm,
    )


def _published(task: Task, few_classes: float, many_classes: float) -> float:
    return many_classes if task.num_classes > 10 else few_classes


METHODS: dict[str, MethodFactory] = {"nfl-mae": nfl_mae, "nce-rce": nce_rce}
