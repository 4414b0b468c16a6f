"""Early-learning regularization: hold the network to what it predicted before it began to memorize.

Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels", NeurIPS 2020.

L = CE + λ mean_i log(1 - <t_i, p_i>). t_i <- β t_i + (1 - β) p_i is the running mean of a sample's predictions, from
t_i = 0 on. p is cut off to [1e-4, 1 - 1e-4], and normalized again before it enters t. No gradient flows through t.
CIFAR-10: β = 0.7, λ = 3 under symmetric noise, β = 0.9, λ = 1 under asymmetric noise. CIFAR-100: β = 0.9, λ = 7.

Formula and numbers are those of the official code (shengliu66/ELR). We take the numbers for symmetric noise, because
no method is told the kind of noise. ELR+, with two networks and mixup, is a method of its own.

Cost: 1 plain training, and a table of N x C.
"""

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.task import Task

CUT_OFF = 1e-4


class EarlyLearningRegularization(LossMethod):
    """L = CE + λ mean log(1 - <t, p>).

    Args:
        task: the data, and what to train with.
        momentum: β; None: 0.7 for up to 10 classes, else 0.9.
        weight: λ; None: 3 for up to 10 classes, else 7.

    Attributes:
        targets: (N, C) t.
    """

    targets: Tensor

    def __init__(self, task: Task, *, momentum: float | None = None, weight: float | None = None) -> None:
        super().__init__(task)
        has_many = task.num_classes > 10
        self.momentum = (0.9 if has_many else 0.7) if momentum is None else momentum
        self.weight = (7.0 if has_many else 3.0) if weight is None else weight
        self.register_buffer("targets", torch.zeros(task.num_samples, task.num_classes))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Move the targets towards the predictions, and return the regularized cross-entropy."""
        probabilities = torch.softmax(logits, dim=1).clamp(CUT_OFF, 1 - CUT_OFF)
        predicted = functional.normalize(probabilities.detach(), p=1, dim=1)
        targets = self.momentum * self.targets[batch.indices] + (1 - self.momentum) * predicted
        self.targets[batch.indices] = targets
        agreement = (targets * probabilities).sum(dim=1)
        return functional.cross_entropy(logits, batch.labels) + self.weight * torch.log(1 - agreement).mean()

    def clean_score(self) -> Tensor:
        """Return the targets' probability of the given label."""
        return self.targets.gather(1, self.task.labels.unsqueeze(1)).squeeze(1)

    def corrected_labels(self) -> Tensor:
        """Return the largest entry of each target."""
        return self.targets.argmax(dim=1)


METHODS: dict[str, MethodFactory] = {"elr": EarlyLearningRegularization}
