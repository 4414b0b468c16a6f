"""What the methods have in common that train two networks side by side."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.learner import Learner
from benchmarks.harness.protocol import Method
from benchmarks.harness.task import Task


class TwoNetworks(Method):
    """A method that trains two networks of other initial weights on the same batches.

    The first one predicts. The official code of these methods reports each of both, never their mean.

    Attributes:
        first: a network, its optimizer and its schedule.
        second: another.
        epoch: the epoch in progress.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.first, self.second = task.learner(), task.learner(member=1)
        self.epoch = 0
        self._batches = task.batches()

    @property
    def learners(self) -> tuple[Learner, Learner]:
        """Both networks."""
        return self.first, self.second

    def begin_epoch(self, epoch: int) -> None:
        """Note the epoch."""
        self.epoch = epoch

    def batches(self) -> Iterable[Any]:
        """Return all samples, shuffled."""
        return self._batches

    def end_epoch(self, epoch: int) -> None:
        """Lower both learning rates."""
        del epoch
        for learner in self.learners:
            learner.scheduler.step()

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the first network's softmax."""
        return torch.softmax(self.first(inputs), dim=1)


class TwoNetworksTogether(TwoNetworks):
    """The same, where both predict together."""

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the softmax of the networks' mean logits."""
        return torch.softmax((self.first(inputs) + self.second(inputs)) / 2, dim=1)
