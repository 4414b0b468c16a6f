"""What a method has to say, and no more."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness.batches import Batch
from benchmarks.harness.task import Task


class Method(nn.Module, ABC):
    """A way to train on noisy labels.

    The harness calls, in each of `num_epochs` epochs, `begin_epoch`, then `step` with each of `batches`, and
    `end_epoch`. Everything that has to survive an interruption is a submodule, a buffer or extra state, as
    `torch.nn.Module` saves it: what is kept for every sample is a buffer of N rows.

    Args:
        task: the data, and what to train with.

    Attributes:
        num_epochs: in total; a method that trains several times has more than ``task.num_epochs``.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.num_epochs = task.num_epochs

    @property
    def schedule(self) -> dict[str, int | None]:
        """W and E_s, ``warmup_epochs`` and ``correction_epoch``: the task's, if the method has none of its own."""
        return {"warmup_epochs": self.task.warmup_epochs, "correction_epoch": self.task.correction_epoch}

    def begin_epoch(self, epoch: int) -> None:
        """Prepare an epoch, counted from 0."""

    @abstractmethod
    def batches(self) -> Iterable[Any]:
        """Return what to iterate over in an epoch."""

    @abstractmethod
    def step(self, batch: Any) -> None:
        """Train on a batch."""

    def end_epoch(self, epoch: int) -> None:
        """Do what comes after the last batch of an epoch."""

    @abstractmethod
    def predict(self, inputs: Tensor) -> Tensor:
        """Return probabilities (B, C) for inputs without augmentation; called in eval mode and without gradient."""

    def clean_score(self) -> Tensor | None:
        """Return a number (N,) for each training sample, larger where the given label is more likely right."""
        return None

    def corrected_labels(self) -> Tensor | None:
        """Return the labels (N,) int64 that the method has come to; None: it corrects none."""
        return None

    def estimated_noise_rate(self) -> float | None:
        """Return the share of wrong labels that the method has come to; None: it estimates none."""
        return None


class SingleNetwork(Method):
    """A method that trains one network, on all samples if it does not say otherwise.

    Attributes:
        learner: the network, its optimizer and its schedule.
        epoch: the epoch in progress.
    """

    def __init__(self, task: Task, *, num_outputs: int | None = None) -> None:
        super().__init__(task)
        self.learner = task.learner(num_outputs=num_outputs)
        self.epoch = 0
        self._batches = task.batches()

    def begin_epoch(self, epoch: int) -> None:
        """Note the epoch."""
        self.epoch = epoch

    def batches(self) -> Iterable[Any]:
        """Return all samples, shuffled."""
        return self._batches

    def end_epoch(self, epoch: int) -> None:
        """Lower the learning rate."""
        del epoch
        self.learner.scheduler.step()

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the network's softmax."""
        return torch.softmax(self.learner(inputs), dim=1)


class LossMethod(SingleNetwork):
    """A method that trains one network down the gradient of a loss: most are this, and write `loss` alone."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the loss of a batch.

        Args:
            logits: (B, C) of its inputs.
            batch: the batch, on the device.
        """

    def step(self, batch: Batch) -> None:
        """Take a step down the gradient of `loss`."""
        batch = batch.to(self.task.device)
        self.learner.step(self.loss(self.learner(batch.inputs), batch))


MethodFactory = Callable[..., Method]
"""``(task, **options) -> method``; the options' defaults are the published hyper-parameters."""
