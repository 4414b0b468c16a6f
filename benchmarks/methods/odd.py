"""ODD: remove samples with a loss that a random label could have.

Song et al., "Robust and On-the-fly Dataset Denoising for Image Classification", ECCV 2020. While the learning rate is
high, a network does not fit labels that have nothing to do with the images. So at the end of that phase, after epoch
E, every sample is removed for good whose loss, the mean of its last h visits, is above

    T_p = the p-quantile of -log softmax(head(relu(z)))_y,  z ~ N(0, I_d),  y uniform,

what the last layer's weights alone say of the losses that random labels would have.

We know of no official code, and the details are as we remember them: h = 2, p = 10 % on CIFAR, and E where the
learning rate first falls. Here the rate is the recipe's highest for the first half of training, and the recipe's
schedule holds for the other half, which suits every schedule.

Cost: less than 1 plain training.
"""

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.task import Task

NUM_MODELED = 10_000


class ODD(LossMethod):
    """On-the-fly data denoising.

    Args:
        task: the data, and what to train with.
        removal_epoch: E; None: half of training.
        window: h.
        quantile: p.

    Attributes:
        kept: (N,) bool, samples that are not removed.
    """

    recent: Tensor
    kept: Tensor

    def __init__(self, task: Task, *, removal_epoch: int | None = None, window: int = 2, quantile: float = 0.1) -> None:
        super().__init__(task)
        self.removal_epoch = max(1, task.num_epochs // 2 if removal_epoch is None else removal_epoch)
        self.quantile = quantile
        self.register_buffer("recent", torch.zeros(task.num_samples, min(window, self.removal_epoch)))
        self.register_buffer("kept", torch.ones(task.num_samples, dtype=torch.bool))

    def begin_epoch(self, epoch: int) -> None:
        """Hold the learning rate high, or leave out what was removed."""
        super().begin_epoch(epoch)
        if epoch < self.removal_epoch:
            self.learner.set_lr(self.task.recipe.lr)
        else:
            self._batches = self.task.batches(subset=self.kept.nonzero().squeeze(1))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy, and note the losses."""
        losses = functional.cross_entropy(logits, batch.labels, reduction="none")
        if self.epoch < self.removal_epoch:
            self.recent[batch.indices, self.epoch % self.recent.shape[1]] = losses.detach()
        return losses.mean()

    def end_epoch(self, epoch: int) -> None:
        """Lower the learning rate; remove samples when it is time."""
        super().end_epoch(epoch)
        if epoch == self.removal_epoch - 1:
            self.kept.copy_(self.recent.mean(dim=1) <= self.modeled_losses().quantile(self.quantile))

    @torch.no_grad()
    def modeled_losses(self) -> Tensor:
        """Draw losses (NUM_MODELED,) of random labels, from the last layer alone."""
        head, device = self.learner.network.head, self.task.device
        noise = torch.randn(NUM_MODELED, head.in_features, device=device)
        labels = torch.randint(self.task.num_classes, (NUM_MODELED,), device=device)
        return functional.cross_entropy(head(noise.relu()), labels, reduction="none")

    def clean_score(self) -> Tensor:
        """Return minus the mean loss by which samples are removed."""
        return -self.recent.mean(dim=1)


METHODS: dict[str, MethodFactory] = {"odd": ODD}
