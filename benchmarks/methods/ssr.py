"""SSR: neighbors vote on which labels to train on, and a confident network replaces labels.

Feng, Tzimiropoulos & Patras, "SSR: An Efficient and Robust Framework for Learning with Unknown Label Noise", BMVC 2022.
Before every epoch, with the network's softmax q and its representations:

- Relabel: y' = argmax q where max q > θ_r, else the *given* label: a correction is undone when confidence falls.
- Select: s_i(c) = the share of class c in y' of the k nearest samples by cosine, i itself among them, over the share of
  c in all of y', normalized. Sample i is trained on if c_i = s_i(y'_i) / max_c s_i(c) >= θ_s.

Only selected samples are trained on, oversampled until all classes are of equal size, in two views, mixed (mixup, share
max(l, 1 - l), l from Beta(4, 4)). SSR+ adds λ_fc * -cos(h(g(f')), sg g(f)) on all samples, f and f' the representations
of two views, g and h small heads. There is no warm-up.

Published: k = 200, θ_s = 1, λ_fc = 1; θ_r = 0.9 on CIFAR-10, on CIFAR-100 0.9 at 20 % noise and 0.8 from 50 % on (0.95
on WebVision and 0.99 on Clothing1M, to be asked for). An epoch has as many steps as all samples have batches. This
follows the official code, but for what the harness fixes: the schedule, and one kind of augmentation, where the code
has a strong one (with AutoAugment's policy) for training and a weak one for the scan. Where 200 samples are more than
half a class, k is half a class.

Cost: 2 + 1/3 plain trainings, and the search for neighbors; SSR+ 4/3 more.
"""

from collections.abc import Iterator
from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.learner import Learner
from benchmarks.harness.protocol import MethodFactory, SingleNetwork
from benchmarks.harness.task import Task
from benchmarks.methods.common.semi_supervised import balanced, endless, mix

NUM_NEIGHBORS = 200
ROWS_AT_ONCE = 1000


class Selected(NamedTuple):
    """What a step takes.

    Attributes:
        labeled: selected samples.
        every: any samples, for the consistency of features; None: it is not asked for.
    """

    labeled: Batch
    every: Batch | None


class SSR(SingleNetwork):
    """Selection by neighbors' votes and relabeling by confidence.

    Args:
        task: the data, and what to train with.
        selection_threshold: θ_s.
        relabel_threshold: θ_r; None: 0.9, and 0.8 for more than 10 classes from 50 % noise on.
        num_neighbors: k; None: 200, or half the mean size of a class if that is less.
        alpha: of mixup's Beta distribution.
        consistency: λ_fc; 0: without the consistency of features.
    """

    score: Tensor
    relabeled: Tensor
    is_selected: Tensor

    def __init__(
        self,
        task: Task,
        *,
        selection_threshold: float = 1.0,
        relabel_threshold: float | None = None,
        num_neighbors: int | None = None,
        alpha: float = 4.0,
        consistency: float = 0.0,
    ) -> None:
        super().__init__(task)
        is_hard = task.num_classes > 10 and task.noise_rate >= 0.5
        self.relabel_threshold = relabel_threshold if relabel_threshold is not None else 0.8 if is_hard else 0.9
        self.selection_threshold, self.alpha, self.consistency = selection_threshold, alpha, consistency
        half_a_class = max(1, task.num_samples // (2 * task.num_classes))
        self.num_neighbors = num_neighbors or min(NUM_NEIGHBORS, half_a_class)
        network = self.learner.network
        with torch.random.fork_rng():
            torch.manual_seed(task.seed)
            self.projector = perceptron(network.head.in_features).to(task.device)
            self.predictor = perceptron(128).to(task.device)
        modules = nn.ModuleList([network, self.projector, self.predictor] if consistency else [network])
        optimizer = task.optimizer(modules.parameters())
        self.learner = Learner(network, optimizer, task.scheduler(optimizer), bfloat16=task.recipe.bfloat16)
        self.register_buffer("score", torch.ones(task.num_samples))
        self.register_buffer("relabeled", task.labels.clone())
        self.register_buffer("is_selected", torch.ones(task.num_samples, dtype=torch.bool))

    def begin_epoch(self, epoch: int) -> None:
        """Relabel, and select what to train on."""
        super().begin_epoch(epoch)
        scan, given = self.task.scan(self.learner), self.task.labels
        self.relabeled.copy_(relabel(scan.logits.softmax(dim=1), given, self.relabel_threshold))
        votes = neighbor_votes(scan.representations, self.relabeled, self.task.num_classes, self.num_neighbors)
        relative = votes / votes.max(dim=1, keepdim=True).values
        self.score.copy_(relative.gather(1, given.unsqueeze(1)).squeeze(1))
        agreement = relative.gather(1, self.relabeled.unsqueeze(1)).squeeze(1)
        self.is_selected.copy_(agreement >= self.selection_threshold)

    def batches(self) -> Iterator[Selected]:
        """Return batches of selected samples, each class as often, as many as all samples have."""
        selected = self.is_selected.nonzero().flatten()
        if len(selected) == 0:
            return
        subset = selected[balanced(self.relabeled[selected])]
        labeled = endless(self.task.batches(num_views=2, subset=subset, stream=1))
        every = self.task.batches(num_views=2)
        for samples in every if self.consistency else repeat(None, len(every)):
            yield Selected(next(labeled), samples)

    def step(self, batch: Selected) -> None:
        """Take a step."""
        labeled = batch.labeled.to(self.task.device)
        views = [labeled.inputs, *labeled.views]
        targets = self.task.one_hot(self.relabeled[labeled.indices]).repeat(len(views), 1)
        mixed = mix(torch.cat(views), targets, self.alpha)
        loss = functional.cross_entropy(self.learner(mixed.inputs), mixed.targets)
        if batch.every is not None and len(batch.every) > 1:  # BatchNorm in the heads takes two samples
            loss = loss + self.consistency * self.feature_loss(batch.every.to(self.task.device))
        self.learner.step(loss)

    def feature_loss(self, batch: Batch) -> Tensor:
        """Return minus the mean cosine between what one view predicts of the other and the other."""
        with torch.no_grad():
            wanted = self.projector(self.learner.logits_and_representations(batch.inputs)[1])
        found = self.projector(self.learner.logits_and_representations(batch.views[0])[1])
        return -functional.cosine_similarity(self.predictor(found), wanted, dim=1).mean()

    def clean_score(self) -> Tensor:
        """Return the vote for the given label relative to the largest vote."""
        return self.score

    def corrected_labels(self) -> Tensor:
        """Return y'."""
        return self.relabeled


def relabel(probabilities: Tensor, given: Tensor, threshold: float) -> Tensor:
    """Return the most likely class where its probability (N, C) is above a threshold, else the given label (N,)."""
    confidence, predicted = probabilities.max(dim=1)
    return torch.where(confidence > threshold, predicted, given)


def neighbor_votes(representations: Tensor, labels: Tensor, num_classes: int, num_neighbors: int) -> Tensor:
    """Return the share (N, C) of each class among nearest neighbors, divided by its share among all and normalized.

    Args:
        representations: (N, d); the nearest by cosine are taken, a sample itself among them.
        labels: (N,).
        num_classes: C.
        num_neighbors: k.
    """
    directions = functional.normalize(representations, dim=1)
    one_hot = functional.one_hot(labels, num_classes).float()
    counts = torch.zeros_like(one_hot)
    for rows, out in zip(torch.split(directions, ROWS_AT_ONCE), torch.split(counts, ROWS_AT_ONCE), strict=True):
        # Not all at once: N x N similarities would not fit into memory.
        nearest = (rows @ directions.T).topk(min(num_neighbors, len(labels)), dim=1).indices
        out.scatter_add_(1, labels[nearest], torch.ones_like(nearest, dtype=counts.dtype))
    votes = counts / one_hot.mean(dim=0).clamp(min=1e-10)
    return votes / votes.sum(dim=1, keepdim=True)


def perceptron(width: int) -> nn.Sequential:
    """Build a head: `width` features to 128, by way of 256."""
    return nn.Sequential(nn.Linear(width, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 128))


def ssr_plus(task: Task, *, consistency: float = 1.0, **options: Any) -> SSR:
    """Train with the consistency of features."""
    return SSR(task, consistency=consistency, **options)


METHODS: dict[str, MethodFactory] = {"ssr": SSR, "ssr-plus": ssr_plus}
