"""Co-teaching: each of two networks chooses samples of small loss for the other one.

Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels", NeurIPS 2018. In epoch
e = 1, 2, ... each network picks the (1 - R) B samples of a batch whose loss is the smallest for it, and the other
network takes a step down the mean cross-entropy of these:

    R = τ min(e / T_k, 1),

with τ the noise rate, which has to be known, and T_k = 10 of 200 epochs. T_k says when networks begin to memorize, as
does the warm-up of other methods; so here it is the recipe's W, which is 10 in the paper's own setting too.

The official code differs in that it divides the mean by the number of samples once more. Adam, with which it trains,
does not notice; SGD would hardly move. Its R is τ min(e / (T_k - 1), 1), at τ an epoch sooner. This is the paper. The
code reports both networks; here the first one predicts.

Cost: 2 plain trainings.
"""

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.learner import Learner
from benchmarks.harness.protocol import MethodFactory
from benchmarks.harness.task import Task
from benchmarks.methods.common.two_networks import TwoNetworks


def teach_each_other(first: Learner, second: Learner, batch: Batch, count: int) -> Tensor:
    """Take a step with both networks, each on what the other one chose.

    Args:
        first: a network.
        second: another.
        batch: on the device.
        count: samples that each chooses.

    Returns:
        (B,) the mean of both networks' losses.
    """
    ours = functional.cross_entropy(first(batch.inputs), batch.labels, reduction="none")
    theirs = functional.cross_entropy(second(batch.inputs), batch.labels, reduction="none")
    our_choice, their_choice = (losses.detach().argsort()[:count] for losses in (ours, theirs))
    first.step(ours[their_choice].mean())
    second.step(theirs[our_choice].mean())
    return (ours.detach() + theirs.detach()) / 2


def ramp(epoch: int, length: int) -> float:
    """Return what rises to 1 within so many epochs; epochs are counted from 0."""
    return min((epoch + 1) / length, 1.0)


class CoTeaching(TwoNetworks):
    """Small-loss samples, exchanged.

    Args:
        task: the data, and what to train with.
        forget_rate: τ, the share that is left out in the end; None: the expected share of wrong labels.
        ramp_epochs: T_k; None: the recipe's warm-up.
    """

    losses: Tensor

    def __init__(self, task: Task, *, forget_rate: float | None = None, ramp_epochs: int | None = None) -> None:
        super().__init__(task)
        self.forget_rate = task.wrong_share if forget_rate is None else forget_rate
        self.ramp_epochs = max(1, task.warmup_epochs if ramp_epochs is None else ramp_epochs)
        self.register_buffer("losses", torch.zeros(task.num_samples))

    def step(self, batch: Batch) -> None:
        """Take a step with each network."""
        batch = batch.to(self.task.device)
        kept = 1 - self.forget_rate * ramp(self.epoch, self.ramp_epochs)
        count = max(1, int(kept * len(batch)))
        self.losses[batch.indices] = teach_each_other(self.first, self.second, batch, count)

    def clean_score(self) -> Tensor:
        """Return minus the loss that both networks had of each sample, at its last visit."""
        return -self.losses


METHODS: dict[str, MethodFactory] = {"co-teaching": CoTeaching}
