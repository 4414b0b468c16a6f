"""Neighbor consistency: a sample shall be predicted as its neighbors in the batch are.

Iscen et al., "Learning with Neighbor Consistency for Noisy Labels", CVPR 2022.

L = (1 - α) CE + α T² mean_i KL( Σ_j w_ij softmax(z_j / T) || softmax(z_i / T) ). w_ij = s_ij / Σ_j s_ij over the k
samples of the batch, i left out, that are most similar to i; s_ij = max(0, cos(f_i, f_j))^g of the representations.
α = 0.3, T = 2, g = 1.

Formula and numbers are those of the official code (google-research/scenic, projects/ncr), for batches of 128 images of
mini-ImageNet. There, k is 10 at 0 and 20 % of noise, 100 at 40 %, and 5 at 80 %. We take 10, because no method here is
tuned to the rate of noise. In the code, gradients flow through the neighbors, too, and so they do here. The code
begins with 10 of 130 epochs of plain cross-entropy; here it is the warm-up that all methods have.

Cost: 1 plain training, and the product of a batch's representations with themselves.
"""

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import MethodFactory, SingleNetwork
from benchmarks.harness.task import Task

LEAST_SIMILARITY = 1e-6
"""In place of 0, so that a sample that is similar to no other has weights, too."""


class NeighborConsistency(SingleNetwork):
    """Cross-entropy, and consistency with neighbors after the warm-up.

    Args:
        task: the data, and what to train with.
        weight: α of the consistency.
        num_neighbors: k.
        exponent: g; the larger, the more the most similar neighbors count.
        temperature: T of the predictions that are compared.
    """

    def __init__(
        self,
        task: Task,
        *,
        weight: float = 0.3,
        num_neighbors: int = 10,
        exponent: float = 1.0,
        temperature: float = 2.0,
    ) -> None:
        super().__init__(task)
        self.weight, self.num_neighbors = weight, num_neighbors
        self.exponent, self.temperature = exponent, temperature

    def step(self, batch: Batch) -> None:
        """Take a step down the gradient of both."""
        batch = batch.to(self.task.device)
        logits, representations = self.learner.logits_and_representations(batch.inputs)
        loss = functional.cross_entropy(logits, batch.labels)
        # A sample alone, as in a last batch of one, has no neighbors.
        if self.epoch >= self.task.warmup_epochs and len(batch) > 1:
            loss = (1 - self.weight) * loss + self.weight * self.inconsistency(logits, representations)
        self.learner.step(loss)

    def inconsistency(self, logits: Tensor, representations: Tensor) -> Tensor:
        """Return T² times the mean divergence of the samples' predictions (B, C) from those of their neighbors."""
        weights = neighbor_weights(representations, self.num_neighbors, self.exponent)
        # At 0 a logarithm follows.
        of_neighbors = weights @ (torch.softmax(logits / self.temperature, dim=1) + 1e-16)
        own = functional.log_softmax(logits / self.temperature, dim=1)
        divergence = (of_neighbors * (of_neighbors.log() - own)).sum(dim=1)
        return self.temperature**2 * divergence.mean()


def neighbor_weights(representations: Tensor, num_neighbors: int, exponent: float) -> Tensor:
    """Return w, (B, B): rows sum to 1, and are 0 on the diagonal and for all but the nearest."""
    directions = functional.normalize(representations, dim=1)
    similarity = (directions @ directions.T).clamp(min=LEAST_SIMILARITY) ** exponent
    itself = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    nearest = similarity.masked_fill(itself, -1).topk(min(num_neighbors, len(similarity) - 1), dim=1)
    weights = torch.zeros_like(similarity).scatter(1, nearest.indices, nearest.values)
    return weights / weights.sum(dim=1, keepdim=True)


METHODS: dict[str, MethodFactory] = {"ncr": NeighborConsistency}
