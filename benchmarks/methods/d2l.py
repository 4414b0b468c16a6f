"""D2L: when the dimension of the representations starts to grow, trust the labels less and less.

Ma et al., "Dimensionality-Driven Learning with Noisy Labels", ICML 2018. The local intrinsic dimensionality of x,
from the distances r_1 <= ... <= r_k of its k = 20 nearest others among 128 representations:

    LID(x) = -k / Σ_j log(r_j / r_k)

Before every epoch its mean over 10 such batches is taken, without augmentation. It falls while the network learns and
grows when it starts to memorize. At the first epoch where it lies more than two standard deviations above the mean of
the 5 epochs before, but not earlier than 5 epochs after e0, the weights go back by an epoch. From then on

    L = CE with target α_e y + (1 - α_e) onehot(argmax p),    α_e = exp(-(e/E) LID_e / min LID), the minimum up to e.

Published: e0 = 40 of 120 epochs on CIFAR-10 and 60 of 200 on CIFAR-100, scaled here (the window of 5 epochs is not).
With other datasets of ten classes it is 5 (MNIST) and 20 (SVHN) of 50.

Paper and released code: the code loads the weights that it saved just before, so that nothing goes back; we follow
the paper. Before the turning point the paper has plain cross-entropy, and so have we; since 2019 the code has
symmetric cross-entropy. That the minimum includes e is the code's.

Cost: 1 plain training, and 1,280 forward passes an epoch.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.task import Task

NUM_BATCHES, BATCH_SIZE = 10, 128


class D2L(LossMethod):
    """Training with an eye on the dimension.

    Args:
        task: the data, and what to train with.
        start: e0, in units of the training as it is here; None: as published for the number of classes, scaled.
        window: LID is compared with so many epochs before.
        num_neighbors: k.
    """

    lids: Tensor
    turning_epoch: Tensor

    def __init__(self, task: Task, *, start: int | None = None, window: int = 5, num_neighbors: int = 20) -> None:
        super().__init__(task)
        published = (60, 200) if task.num_classes > 10 else (40, 120)
        self.start = task.epochs_of(*published) if start is None else start
        self.window, self.num_neighbors = window, num_neighbors
        self.alpha = 1.0
        self.before = task.network().requires_grad_(requires_grad=False)
        self.register_buffer("lids", torch.full((task.num_epochs,), torch.nan, dtype=torch.float64))
        self.register_buffer("turning_epoch", torch.tensor(-1))

    def begin_epoch(self, epoch: int) -> None:
        """Measure the dimension, and decide how far to trust the labels."""
        super().begin_epoch(epoch)
        self.lids[epoch] = self._mean_lid(epoch)
        lids = self.lids[: epoch + 1].tolist()
        if self.turning_epoch < 0:
            if epoch + 1 > self.start + self.window and has_turned(lids, self.window):
                self.turning_epoch.fill_(epoch)
                self.learner.network.load_state_dict(self.before.state_dict())
            else:
                self.before.load_state_dict(self.learner.network.state_dict())
        self.alpha = 1.0 if self.turning_epoch < 0 else math.exp(-epoch / self.num_epochs * lids[-1] / min(lids))

    def _mean_lid(self, epoch: int) -> float:
        drawn = torch.randperm(self.task.num_samples)[: NUM_BATCHES * BATCH_SIZE]
        representations = self.task.scan(self.learner, drawn).representations
        parts = [local_dimensions(part, self.num_neighbors) for part in torch.split(representations, BATCH_SIZE)]
        mean = torch.cat(parts).double().mean().item()
        if math.isfinite(mean) and mean > 0:
            return mean
        return float(self.lids[epoch - 1]) if epoch > 0 else 1.0  # as the released code: what came before

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy with the given labels, or with what is left of them."""
        if self.alpha == 1:
            return functional.cross_entropy(logits, batch.labels)
        given, predicted = self.task.one_hot(batch.labels), self.task.one_hot(logits.argmax(dim=1))
        return functional.cross_entropy(logits, self.alpha * given + (1 - self.alpha) * predicted)


def local_dimensions(representations: Tensor, num_neighbors: int) -> Tensor:
    """Estimate the local intrinsic dimensionality of each row (B, d) from the others; (B,) float32."""
    k = min(num_neighbors, len(representations) - 1)
    distances = torch.cdist(representations, representations, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.sort(dim=1).values[:, 1 : k + 1]  # the row itself is first
    return -k / (nearest / nearest[:, -1:] + 1e-8).log().sum(dim=1)


def has_turned(lids: list[float], window: int) -> bool:
    """Return whether the last one lies more than two standard deviations above the mean of those before."""
    before = torch.tensor(lids[-window - 1 : -1], dtype=torch.float64)
    return lids[-1] - before.mean().item() > 2 * before.std(correction=0).item()


METHODS: dict[str, MethodFactory] = {"d2l": D2L}
