"""O2U-Net: rank samples by their loss while the network goes back and forth between over- and underfitting.

Huang et al., "O2U-Net: A Simple Noisy Label Detection Approach for Deep Neural Networks", ICCV 2019. Three trainings of
the same length, 250 epochs each:

1. plain,
2. from there, in batches of 16 and with a learning rate that starts high again every ten epochs,
   s = ((e mod 10) + 1) / 10,  lr = (1 - s) 0.01 + s 0.001. Every epoch adds a sample's loss, less the epoch's mean.
   The τ N samples with the largest sums are dropped; τ has to be known,
3. plain, on the rest.

The third starts from the weights at the end of the first, as in the official code. The first and the third lower the
rate in three steps there; here they follow the recipe. The rates and the batches of the second are the published ones.
A cycle stays ten epochs long in shorter trainings: it is what a network takes to fit.

Cost: 3 - τ plain trainings, though batches of 16 take longer.
"""

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.task import Task


class O2UNet(LossMethod):
    """Overfitting to underfitting.

    Args:
        task: the data, and what to train with.
        forget_rate: τ; None: the expected share of wrong labels.
        cycle: epochs from one high learning rate to the next.
        max_lr: highest learning rate of a cycle.
        min_lr: lowest.
        batch_size: of the second training.

    Attributes:
        accumulated: (N,) the sums of losses.
    """

    accumulated: Tensor

    def __init__(
        self,
        task: Task,
        *,
        forget_rate: float | None = None,
        cycle: int = 10,
        max_lr: float = 0.01,
        min_lr: float = 0.001,
        batch_size: int = 16,
    ) -> None:
        super().__init__(task)
        self.num_epochs = 3 * task.num_epochs
        self.forget_rate = task.wrong_share if forget_rate is None else forget_rate
        self.cycle, self.max_lr, self.min_lr, self.batch_size = cycle, max_lr, min_lr, batch_size
        self.pretrained = task.network()
        self.register_buffer("accumulated", torch.zeros(task.num_samples))

    @property
    def stage(self) -> int:
        """The training in progress, counted from 0."""
        return self.epoch // self.task.num_epochs

    @property
    def kept(self) -> Tensor:
        """Indices of the (1 - τ) N samples with the smallest sums."""
        return self.accumulated.argsort()[: int((1 - self.forget_rate) * self.task.num_samples)]

    def begin_epoch(self, epoch: int) -> None:
        """Go back to the weights of the first training where another starts, and set the learning rate."""
        super().begin_epoch(epoch)
        epoch_of_stage = epoch % self.task.num_epochs
        if self.stage > 0 and epoch_of_stage == 0:
            if self.stage == 1:
                self.pretrained.load_state_dict(self.learner.network.state_dict())
            self.learner = self.task.learner()
            self.learner.network.load_state_dict(self.pretrained.state_dict())
        if self.stage == 1:
            share = (epoch_of_stage % self.cycle + 1) / self.cycle
            self.learner.set_lr((1 - share) * self.max_lr + share * self.min_lr)
            self._batches = self.task.batches(batch_size=self.batch_size)
        elif self.stage == 2:
            self._batches = self.task.batches(subset=self.kept)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy; in the second training, add up the losses."""
        losses = functional.cross_entropy(logits, batch.labels, reduction="none")
        if self.stage == 1:
            self.accumulated[batch.indices] += losses.detach()
        return losses.mean()

    def end_epoch(self, epoch: int) -> None:
        """Lower the learning rate; in the second training, take the epoch's mean off."""
        super().end_epoch(epoch)
        if self.stage == 1:
            self.accumulated -= self.accumulated.mean()

    def clean_score(self) -> Tensor | None:
        """Return minus the sum of losses, once there are any."""
        return -self.accumulated if self.accumulated.any() else None


METHODS: dict[str, MethodFactory] = {"o2u-net": O2UNet}
