"""CRUST: train on a coreset whose gradients stand for those of all samples of a class.

Mirzasoleiman et al., "Coresets for Robust Training of Neural Networks against Noisy Labels", NeurIPS 2020. After a
warm-up (5 of 120 epochs; here the recipe's), before every epoch and within each class of given labels:

    g_i = gradient of sample i's loss in the last representation,  D_ij = |g_i - g_j|,
    S = argmax of sum_j max_{i in S} (const - D_ij),  |S| = n_c / 2,  by lazy greedy,
    weight of i in S = number of samples j with D_ij < r, r = 2.

The epoch goes over S alone, with the weights divided by their sum over a batch. Inputs are mixed with a random sample
of the same given label, λ x_i + (1 - λ) x_j, λ ~ Beta(1, 0.1) once for a batch; the label stays.

The released code comes to something else in two places, and ``crust-released`` does as the code does:
- its lazy greedy compares values of the whole set with values of single samples, so that it never re-evaluates: it
  takes the n_c / 2 samples with the smallest sums of distances, the middle of the class, and no sample of the rim;
- its gradients are of a batch's mean loss, 128 times smaller, so that r takes in the whole class: the weights are n_c,
  alike within a class, and larger in one that more samples are labeled as.

So the published figures, and the paper's claim that coresets are clean, are of the middle of a class. Facility location
for half of a class takes samples of the rim before it takes a second one of the middle, since nothing else is near to
them. These are the mislabeled ones: ``crust`` selects a larger share of wrong labels than the data have, and the
weights do not make up for it. ``crust-released`` is the rival to compare with.

Gradients are W^T (p - y), with W the last layer's weights. p is from a scan without augmentation, in eval mode; the
code has it in training mode with augmentation. Partners are of all samples of a class, as in the code.

Cost: 0.83 plain trainings, and O(n_c²) memory and time for the distances.
"""

import heapq
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributions import Beta
from torch.nn import functional

from benchmarks.harness.batches import Batch, IndexedSamples, as_batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.task import Task


def facility_location(similarities: npt.NDArray[np.float32], size: int) -> list[int]:
    """Choose rows whose largest similarity to each column has the largest sum, by lazy greedy.

    A gain only shrinks while the set grows. So an old gain is an upper bound, and the row with the largest one is the
    best of all where its gain, computed anew, is still above the others' bounds.

    Args:
        similarities: (n, n), 0 or more.
        size: how many rows to choose.

    Returns:
        Their indices, in the order of choice.
    """
    covered = np.zeros(len(similarities), similarities.dtype)
    bounds = [(-float(row.sum()), index) for index, row in enumerate(similarities)]
    heapq.heapify(bounds)
    chosen: list[int] = []
    while len(chosen) < size:
        _, index = heapq.heappop(bounds)
        gain = float(np.maximum(similarities[index] - covered, 0).sum())
        if bounds and gain < -bounds[0][0]:
            heapq.heappush(bounds, (-gain, index))
            continue
        chosen.append(index)
        np.maximum(covered, similarities[index], out=covered)
    return chosen


class Crust(LossMethod):
    """Coresets of gradients.

    Args:
        task: the data, and what to train with.
        is_released: do as the released code does.
        fraction: of a class that is selected.
        radius: r.
        mixing: second parameter of the Beta distribution.
        start_epoch: the first that is trained on a coreset; None: after the recipe's warm-up.

    Attributes:
        selected: (N,) bool, the coreset.
        weights: (N,) of samples in the coreset.
        density: (N,) how much a sample is in the middle of its class.
    """

    selected: Tensor
    weights: Tensor
    density: Tensor

    def __init__(
        self,
        task: Task,
        *,
        is_released: bool = False,
        fraction: float = 0.5,
        radius: float = 2.0,
        mixing: float = 0.1,
        start_epoch: int | None = None,
    ) -> None:
        super().__init__(task)
        self.is_released, self.fraction, self.radius, self.mixing = is_released, fraction, radius, mixing
        self.start_epoch = task.warmup_epochs if start_epoch is None else start_epoch
        self.register_buffer("selected", torch.ones(task.num_samples, dtype=torch.bool))
        self.register_buffer("weights", torch.ones(task.num_samples))
        self.register_buffer("density", torch.zeros(task.num_samples))
        labels = task.labels.cpu()
        self._by_class, self._counts = labels.argsort(stable=True), labels.bincount(minlength=task.num_classes)

    def begin_epoch(self, epoch: int) -> None:
        """Select the coreset."""
        super().begin_epoch(epoch)
        if epoch >= self.start_epoch:
            self._select()
            self._batches = self.task.batches(subset=self.selected.nonzero().squeeze(1))

    def step(self, batch: Batch) -> None:
        """Mix the inputs, then take a step."""
        if self.epoch >= self.start_epoch:
            share = Beta(torch.tensor(1.0), torch.tensor(self.mixing)).sample()
            mixed = share * batch.inputs + (1 - share) * self.partners(batch.labels)
            batch = Batch(mixed, batch.labels, batch.indices)
        super().step(batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the weighted mean of the cross-entropies."""
        weights = self.weights[batch.indices]
        losses = functional.cross_entropy(logits, batch.labels, reduction="none")
        return (losses * weights).sum() / weights.sum()

    def clean_score(self) -> Tensor:
        """Return how much each sample is in the middle of its class."""
        return self.density

    def gradients(self) -> Tensor:
        """Return the gradient (N, d) of each sample's loss in its representation."""
        errors = self.task.scan(self.learner).logits.softmax(dim=1) - self.task.one_hot(self.task.labels)
        return errors @ self.learner.network.head.weight.detach()

    def _select(self) -> None:
        gradients = self.gradients()
        self.selected.fill_(value=False)
        for label in range(self.task.num_classes):
            members = (self.task.labels == label).nonzero().squeeze(1)
            size = int(self.fraction * len(members))
            if size == 0:
                continue
            distances = torch.cdist(gradients[members], gradients[members])
            if self.is_released:
                self.weights[members] = float(len(members))
                self.density[members] = -distances.mean(dim=1)
                chosen = distances.sum(dim=1).argsort()[:size]
            else:
                near = (distances < self.radius).sum(dim=1).float()
                self.weights[members] = self.density[members] = near
                similarities = (distances.max() - distances).cpu().numpy()
                chosen = torch.tensor(facility_location(similarities, size), device=members.device)
            self.selected[members[chosen]] = True

    def partners(self, labels: Tensor) -> Tensor:
        """Load a random sample, of all, for each given label: inputs (B, ...)."""
        starts = self._counts.cumsum(dim=0) - self._counts
        places = starts[labels] + (torch.rand(len(labels)) * self._counts[labels]).long()
        return as_batch(IndexedSamples(self.task.train).__getitems__(self._by_class[places].tolist())).inputs


METHODS: dict[str, MethodFactory] = {"crust": Crust, "crust-released": partial(Crust, is_released=True)}
