"""SEAL: train again and again, each time on what the network before predicted on average over its training.

Chen et al., "Beyond Class-Conditional Assumption: A Primary Attempt to Combat Instance-Dependent Label Noise", AAAI
2021. Round 0 is plain training. After every epoch of a round, the training samples are predicted (eval mode, with the
augmentation of training); S is the mean of these predictions over all epochs of the round. The next round trains a
new network, from the same initial weights, on S of the round before: L = -Σ S log p.

Published: 3 rounds after the first on CIFAR-10 (the default) and on Clothing1M, where a round starts from the weights
of the one before, and 10 on MNIST.

Cost: 1.33 plain trainings a round, 5.33 in total. State: 2 x N x C.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.task import SCAN_BATCH_SIZE, Task


class SEAL(LossMethod):
    """All rounds, each as long as a plain training.

    Args:
        task: the data, and what to train with.
        rounds: how many there are after the first one.
    """

    targets: Tensor
    sums: Tensor

    def __init__(self, task: Task, *, rounds: int = 3) -> None:
        super().__init__(task)
        self.num_epochs = (1 + rounds) * task.num_epochs
        self._scan_batches: Iterable[Batch] = task.batches(batch_size=SCAN_BATCH_SIZE, stream=1)
        self.register_buffer("targets", task.one_hot(task.labels))
        self.register_buffer("sums", torch.zeros_like(self.targets))

    def begin_epoch(self, epoch: int) -> None:
        """Start with a new network, where a round starts."""
        super().begin_epoch(epoch)
        if epoch > 0 and epoch % self.task.num_epochs == 0:
            self.learner = self.task.learner()

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy with the round's targets."""
        return functional.cross_entropy(logits, self.targets[batch.indices])

    def end_epoch(self, epoch: int) -> None:
        """Collect predictions; at the end of a round make targets of them."""
        super().end_epoch(epoch)
        self._collect()
        if (epoch + 1) % self.task.num_epochs == 0:
            self.targets.copy_(self.sums / self.task.num_epochs)
            self.sums.zero_()

    @torch.no_grad()
    def _collect(self) -> None:
        self.learner.eval()
        for part in self._scan_batches:
            batch = part.to(self.task.device)
            self.sums[batch.indices] += self.learner(batch.inputs).softmax(dim=1)
        self.learner.train()

    def clean_score(self) -> Tensor:
        """Return what the latest complete S gives to the given label."""
        return self.targets.gather(1, self.task.labels.unsqueeze(1)).squeeze(1)

    def corrected_labels(self) -> Tensor:
        """Return the largest entry of the latest complete S."""
        return self.targets.argmax(dim=1)


METHODS: dict[str, MethodFactory] = {"seal": SEAL}
