"""Sparse over-parameterization: a few numbers of its own take up what is wrong with a sample's label.

Liu et al., "Robust Training under Label Noise by Over-parameterization", ICML 2022.

The noise of a sample is s = u² y - v² (1 - y), u a number and v one for each class, their squares cut off at 1. Both
start close to 0 (normal, 1e-8), and are trained by gradient descent without momentum or decay, which finds sparse s.
L = -log q_y + |onehot(argmax p) + s - y|². q = p + u² y - sg(v²) (1 - y), cut off below at 1e-4 and normalized; sg
stops the gradient. Learning rates, by the paper's Table A.1: on CIFAR-10 u 10, v 10 (asymmetric noise: 10, 100); on
CIFAR-100 u 1, v 10 (asymmetric noise: 1, 100; the last version of the code has 0.1, 100).

The formula is that of the last version of the official code (shengliu66/SOP), without the terms of SOP+. u and v grow
by a factor with each step. What counts is therefore the learning rate times the number of a sample's steps. The
published rates are for 300 epochs with batches of 128; we scale them to the recipe's. This is our own, and not exact: a
factor of 1 + x a step does not grow as fast as e^x.

Cost: 1 plain training, and a table of N x (C + 1).
"""

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import MethodFactory, SingleNetwork
from benchmarks.harness.task import Task

CUT_OFF = 1e-4
START = 1e-8
PUBLISHED_EPOCHS, PUBLISHED_BATCH_SIZE = 300, 128


class SparseOverParameterization(SingleNetwork):
    """Network and noise of the samples, trained together.

    Args:
        task: the data, and what to train with.
        lr_u: learning rate of u in a training of 300 epochs with batches of 128; None: 10 for up to 10 classes, else 1.
        lr_v: that of v; None: 10.

    Attributes:
        u: (N, 1).
        v: (N, C).
    """

    u: Tensor
    v: Tensor

    def __init__(self, task: Task, *, lr_u: float | None = None, lr_v: float | None = None) -> None:
        super().__init__(task)
        scale = PUBLISHED_EPOCHS / task.num_epochs * task.recipe.batch_size / PUBLISHED_BATCH_SIZE
        self.lr_u = scale * ((1.0 if task.num_classes > 10 else 10.0) if lr_u is None else lr_u)
        self.lr_v = scale * (10.0 if lr_v is None else lr_v)
        generator = torch.Generator().manual_seed(task.seed)
        self.register_buffer("u", START * torch.randn(task.num_samples, 1, generator=generator))
        self.register_buffer("v", START * torch.randn(task.num_samples, task.num_classes, generator=generator))

    def loss(self, logits: Tensor, labels: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Return the mean loss.

        Args:
            logits: (B, C).
            labels: (B,).
            u: (B, 1) of the samples in the batch.
            v: (B, C).
        """
        given = self.task.one_hot(labels)
        added, taken = _squares(u, v, given)
        shifted = (torch.softmax(logits, dim=1) + added - taken.detach()).clamp(min=CUT_OFF)
        shifted = functional.normalize(shifted, p=1, dim=1).clamp(min=CUT_OFF)
        likelihood = shifted.gather(1, labels.unsqueeze(1)).log().mean()
        predicted = self.task.one_hot(logits.argmax(dim=1))
        distance = (predicted + added - taken - given).square().sum(dim=1).mean()
        return distance - likelihood

    def step(self, batch: Batch) -> None:
        """Take a step with the network, and one with u and v of these samples."""
        batch = batch.to(self.task.device)
        u, v = self.u[batch.indices].requires_grad_(), self.v[batch.indices].requires_grad_()
        self.learner.step(self.loss(self.learner(batch.inputs), batch.labels, u, v))
        for table, rows, lr in ((self.u, u, self.lr_u), (self.v, v, self.lr_v)):
            assert rows.grad is not None
            table[batch.indices] = rows.detach() - lr * rows.grad

    def clean_score(self) -> Tensor:
        """Return how little noise was found: less the largest entries of both its parts."""
        added, taken = _squares(self.u, self.v, self.task.one_hot(self.task.labels))
        return -(added + taken).max(dim=1).values

    def corrected_labels(self) -> Tensor:
        """Return the largest entry of the label less its noise."""
        given = self.task.one_hot(self.task.labels)
        added, taken = _squares(self.u, self.v, given)
        return (given - added + taken).argmax(dim=1)


def _squares(u: Tensor, v: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    return (u.square() * given).clamp(max=1), (v.square() * (1 - given)).clamp(max=1)


METHODS: dict[str, MethodFactory] = {"sop": SparseOverParameterization}
