"""Decoupling: two networks learn only where they disagree.

Malach & Shalev-Shwartz, "Decoupling 'when to update' from 'how to update'", NIPS 2017. With S = {i in the batch:
argmax p1 != argmax p2}, each network takes a step down

    L = sum over S of -log p_y / max(|S|, B / 10).

Labels say how to learn, and no longer when: where both networks agree nothing is learned, be the label right or wrong.
The official code does so from the first step on. It divides by a tenth of the batch at least, and so does this. Its
weights that even out two classes are left out.

The first network predicts. Nothing is ranked or selected by how clean it is, so there is no score.

Cost: 2 plain trainings.
"""

from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import MethodFactory
from benchmarks.harness.task import Task
from benchmarks.methods.common.two_networks import TwoNetworks


class Decoupling(TwoNetworks):
    """Update by disagreement.

    Args:
        task: the data, and what to train with.
        min_share: the losses are divided by this share of the batch at least.
    """

    def __init__(self, task: Task, *, min_share: float = 0.1) -> None:
        super().__init__(task)
        self.min_share = min_share

    def step(self, batch: Batch) -> None:
        """Take a step with each network."""
        batch = batch.to(self.task.device)
        ours, theirs = self.first(batch.inputs), self.second(batch.inputs)
        disagree = ours.argmax(dim=1) != theirs.argmax(dim=1)
        self.first.step(self.loss(ours, batch.labels, disagree))
        self.second.step(self.loss(theirs, batch.labels, disagree))

    def loss(self, logits: Tensor, labels: Tensor, disagree: Tensor) -> Tensor:
        """Return the loss of a network.

        Args:
            logits: (B, C).
            labels: (B,).
            disagree: (B,) bool.
        """
        losses = functional.cross_entropy(logits, labels, reduction="none")
        return (losses * disagree).sum() / disagree.sum().clamp(min=self.min_share * len(labels))


METHODS: dict[str, MethodFactory] = {"decoupling": Decoupling}
