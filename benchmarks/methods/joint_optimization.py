"""Joint Optimization: train at a high learning rate, take its predictions for labels, then train anew on them.

Tanaka et al., "Joint Optimization Framework for Learning with Noisy Labels", CVPR 2018. Step 1, at a constant, high
learning rate, where a network does not memorize yet:

    L = -Σ t log p  +  α (-Σ_c log p̄_c / C)  +  β (-Σ p log p),    p̄: the mean of p over the batch

t starts as the given label. After every epoch from the 70th on, t becomes the mean of what the last 10 epochs'
training passes predicted. Step 2: a new network on the final t, with its own schedule, L = -Σ t log p.

Published for CIFAR-10: 70 % symmetric noise: learning rate 0.08, α 1.2, β 0.8 (the defaults here); 40 % asymmetric:
0.03, 0.8, 0.4. Step 1 has 200 epochs, step 2 has 120, at 0.2 and a tenth of it after each third. Here both steps have
the length of a plain training, and step 2 the recipe's schedule, as the last training of every method. The 70 and the
10 epochs are scaled to the length of step 1.

Cost: 2 plain trainings (1.6 as published). State: N x C x the averaged epochs.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import Method, MethodFactory
from benchmarks.harness.task import Task

PUBLISHED_EPOCHS = 200


class JointOptimization(Method):
    """Both steps.

    Args:
        task: the data, and what to train with.
        lr: constant learning rate of step 1.
        alpha: α, weight of the prior: all classes are predicted equally often.
        beta: β, weight of the entropy.
        begin: labels are replaced from the end of this epoch on, of 200.
        window: predictions of so many epochs are averaged, of 200.
    """

    soft_labels: Tensor
    predictions: Tensor
    num_done: Tensor

    def __init__(
        self,
        task: Task,
        *,
        lr: float = 0.08,
        alpha: float = 1.2,
        beta: float = 0.8,
        begin: int = 70,
        window: int = 10,
    ) -> None:
        super().__init__(task)
        self.alpha, self.beta = alpha, beta
        self.num_first, self.num_epochs = task.num_epochs, 2 * task.num_epochs
        self.begin = task.epochs_of(begin, PUBLISHED_EPOCHS)
        self.window = min(task.epochs_of(window, PUBLISHED_EPOCHS), self.begin)
        # Two learners, not one that is replaced: their schedules differ, and a checkpoint does not tell which it has.
        self.first = task.learner(lr=lr, schedule="constant")
        self.second = task.learner()
        self.epoch = 0
        self._batches = task.batches()
        self.register_buffer("soft_labels", task.one_hot(task.labels))
        self.register_buffer("predictions", torch.zeros(self.window, task.num_samples, task.num_classes))
        self.register_buffer("num_done", torch.tensor(0))

    def begin_epoch(self, epoch: int) -> None:
        """Note the epoch."""
        self.epoch = epoch

    def batches(self) -> Iterable[Batch]:
        """Return all samples, shuffled."""
        return self._batches

    def step(self, batch: Batch) -> None:
        """Train on the labels as they are, in step 1 with the regularization."""
        batch = batch.to(self.task.device)
        targets = self.soft_labels[batch.indices]
        if self.epoch >= self.num_first:
            self.second.step(functional.cross_entropy(self.second(batch.inputs), targets))
            return
        logits = self.first(batch.inputs)
        self.predictions[self.epoch % self.window, batch.indices] = logits.detach().softmax(dim=1)
        self.first.step(joint_loss(logits, targets, self.alpha, self.beta))

    def end_epoch(self, epoch: int) -> None:
        """Replace the labels, and lower the learning rate."""
        (self.first if epoch < self.num_first else self.second).scheduler.step()
        if self.begin <= epoch + 1 <= self.num_first:
            self.soft_labels.copy_(self.predictions.mean(dim=0))
        self.num_done.fill_(epoch + 1)

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the softmax of the network that was trained last."""
        learner = self.first if int(self.num_done) <= self.num_first else self.second
        return torch.softmax(learner(inputs), dim=1)

    def clean_score(self) -> Tensor:
        """Return what the soft label gives to the given class."""
        return self.soft_labels.gather(1, self.task.labels.unsqueeze(1)).squeeze(1)

    def corrected_labels(self) -> Tensor:
        """Return the largest entry of each soft label."""
        return self.soft_labels.argmax(dim=1)


def joint_loss(logits: Tensor, targets: Tensor, alpha: float, beta: float) -> Tensor:
    """Return the loss of step 1.

    Args:
        logits: (B, C).
        targets: (B, C) soft labels.
        alpha: α.
        beta: β.
    """
    log_p = logits.log_softmax(dim=1)
    p = log_p.exp()
    prior = -p.mean(dim=0).log().mean()
    entropy = -(p * log_p).sum(dim=1).mean()
    return -(targets * log_p).sum(dim=1).mean() + alpha * prior + beta * entropy


METHODS: dict[str, MethodFactory] = {"joint-optimization": JointOptimization}
