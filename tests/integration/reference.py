"""Algorithm 1 of MixNN (Lu & He, 2021) in plain NumPy: slow, obvious, and independent of the library.

It never runs a model. It is told what the model answered (logits and representations of the epoch's scan, or of the
mini-batches of the epoch before, class probabilities of each mini-batch, logits of the mixed samples) and says what
MixNN makes of those answers, one sample and one neighbor at a time, in float64.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from sklearn.mixture import GaussianMixture

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MISSING = -1
"""Stands for a neighbor that a small mini-batch could not provide."""


def softmax(logits: Floats) -> Floats:
    """Class probabilities (B, C) of logits (B, C)."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def cross_entropies(logits: Floats, targets: Floats) -> Floats:
    """-target · log softmax(logits) of each sample, (B,)."""
    losses = np.zeros(len(logits))
    for i, (row, target) in enumerate(zip(logits, targets, strict=True)):
        log_normalizer = row.max() + np.log(np.exp(row - row.max()).sum())
        for c in range(len(row)):
            losses[i] -= target[c] * (row[c] - log_normalizer)
    return losses


def clipped(probabilities: Floats) -> Floats:
    """Probabilities (B, C), none of them nearer to 0 or 1 than 1e-4."""
    return np.minimum(np.maximum(probabilities, 1e-4), 1 - 1e-4)


def one_hot(labels: Integers, num_classes: int) -> Floats:
    """(N, C) rows of ŷ."""
    return np.eye(num_classes)[labels]


def nearest(representations: Floats, identities: Integers, k: int) -> Integers:
    """The k nearest other samples of every row by Euclidean distance, nearest first, padded with MISSING.

    ``identities`` (B,) says which sample each row of ``representations`` (B, d) is; rows of the same sample are no
    neighbors of each other. Returns identities (B, k).
    """
    neighbors = np.full((len(representations), k), MISSING)
    for i, own in enumerate(representations):
        distances = np.sqrt(((representations - own) ** 2).sum(axis=1))
        others = [j for j in np.argsort(distances) if identities[j] != identities[i]]
        for rank, j in enumerate(others[:k]):
            neighbors[i, rank] = identities[j]
    return neighbors


def clean_posteriors(losses: Floats) -> Floats:
    """Eq. 8 and 9 with scikit-learn's mixture: P of the low-mean component for min-max normalized losses, (N,).

    The largest losses are clipped first, at the smallest loss that 99.9 % do not exceed. The log-odds of the two
    components are a parabola; beyond its vertex, where a smaller loss would be less clean, the vertex counts.
    """
    ceiling = np.sort(losses)[int(np.ceil(0.999 * len(losses))) - 1]
    clipped = np.minimum(losses, ceiling)
    normalized = (clipped - clipped.min()) / (clipped.max() - clipped.min())
    mixture = GaussianMixture(2, tol=1e-9, max_iter=10_000, n_init=10, random_state=0).fit(normalized[:, None])
    clean = int(mixture.means_[:, 0].argmin())
    mean, variance = mixture.means_[[clean, 1 - clean], 0], mixture.covariances_[[clean, 1 - clean], 0, 0]
    curvature = 1 / variance[1] - 1 / variance[0]  # twice the square term of the log-odds
    vertex = (mean[1] / variance[1] - mean[0] / variance[0]) / curvature
    monotone = np.maximum(normalized, vertex) if curvature < 0 else np.minimum(normalized, vertex)
    return np.asarray(mixture.predict_proba(monotone[:, None])[:, clean], dtype=np.float64)


@dataclass(frozen=True)
class Schedule:
    """Which epochs start with a scan: ``scan=`` and ``scan_every=``."""

    running: bool = False
    every: int | None = None

    def scans(self, past_warmup: int) -> bool:
        """Whether the epoch scans; the first one after warm-up, number 0, always does."""
        if past_warmup == 0:
            return True
        if self.every is None:
            return not self.running
        return past_warmup % self.every == 0


@dataclass
class LastAnswers:
    """What the model said of every sample when it was asked last."""

    losses: Floats  # (N,)
    representations: Floats  # (N, d)

    def take(self, indices: Integers, losses: Floats, representations: Floats | None) -> None:
        """Take in a mini-batch (B,); of a sample that occurs several times in it, the first counts."""
        taken: set[int] = set()
        for place, i in enumerate(indices.tolist()):
            if i in taken:
                continue
            taken.add(i)
            self.losses[i] = losses[place]
            if representations is not None:
                self.representations[i] = representations[place]


@dataclass
class Mixed:
    """What Algorithm 1 makes of one mini-batch of B samples."""

    neighbors: Integers  # (B, K)
    weights: Floats  # (B, K + 1), the sample's own weight λ first
    soft_targets: Floats  # (B, K + 1, C), the sample's own target first
    inputs: Floats  # (B, ...)
    targets: Floats  # (B, C)
    averages: Floats  # (B, C), of predictions
    strength: float  # of the early-learning term
    momentum: float | None  # with which the averages have yet to take in the training step's prediction

    def losses(self, logits: Floats) -> Floats:
        """Eq. 7 and the early-learning term of each sample, (B,), for the logits (B, C) of the mixed inputs."""
        losses = cross_entropies(logits, self.targets)
        if self.strength == 0:
            return losses
        for b, probabilities in enumerate(clipped(softmax(logits))):
            average = self.averages[b]
            if self.momentum is not None:
                average = self.momentum * average + (1 - self.momentum) * probabilities / probabilities.sum()
            losses[b] += self.strength * np.log(1 - average @ probabilities)
        return losses

    def losses_in_two_terms(self, logits: Floats) -> Floats:
        """Eq. 7 as the paper first writes it: λ CE(t_i) + Σ_k β^k CE(t_k), (B,)."""
        total = self.weights[:, 0] * cross_entropies(logits, self.soft_targets[:, 0])
        for k in range(1, self.weights.shape[1]):
            total += self.weights[:, k] * cross_entropies(logits, self.soft_targets[:, k])
        return np.asarray(total)


@dataclass
class Reference:
    """Algorithm 1 over recorded model outputs.

    ``samples`` is (N, ...), ``labels`` (N,) as given. ``soft_targets`` is t of Eq. 12 and starts as one-hot labels.
    ``averages`` is the average of predictions of early-learning regularization (Liu et al. 2020) and starts at zero.
    """

    samples: Floats
    labels: Integers
    num_classes: int
    num_neighbors: int
    warmup_epochs: int
    correction_epoch: int | None
    momentum: float
    uniform: bool = False
    doubt: bool = False
    early_learning: float = 0.0
    prediction_momentum: float = 0.7
    soft_targets: Floats = field(init=False)
    averages: Floats = field(init=False)

    def __post_init__(self) -> None:
        """Start every soft target at the given label."""
        self.soft_targets = one_hot(self.labels, self.num_classes)
        self.averages = np.zeros_like(self.soft_targets)

    def given_label_losses(self, logits: Floats, indices: Integers) -> Floats:
        """Cross-entropy of some samples (B,) against their given labels, (B,)."""
        return cross_entropies(logits, one_hot(self.labels[indices], self.num_classes))

    def warmup_batch(self, indices: Integers) -> Mixed:
        """A mini-batch of plain training on ŷ."""
        labels = one_hot(self.labels[indices], self.num_classes)
        return Mixed(
            neighbors=np.zeros((len(indices), 0), dtype=np.int64),
            weights=np.ones((len(indices), 1)),
            soft_targets=labels[:, None],
            inputs=self.samples[indices],
            targets=labels,
            averages=self.averages[indices],
            strength=self.early_learning,
            momentum=self.prediction_momentum,
        )

    def batch(
        self, epoch: int, indices: Integers, probabilities: Floats, posteriors: Floats, neighbors: Integers
    ) -> Mixed:
        """Steps 4b to 4e for a mini-batch.

        ``indices`` (B,) are the batch's samples, ``probabilities`` (B, C) their p, ``posteriors`` (N,) everyone's P and
        ``neighbors`` (B, K) the batch's neighbors as sample indices or MISSING.
        """
        self.correct(epoch, indices, probabilities)
        self.average(indices, probabilities)
        weights = np.stack([self.weights(i, row, posteriors) for i, row in zip(indices, neighbors, strict=True)])
        return self.mix(indices, neighbors, weights)

    def mix(self, indices: Integers, neighbors: Integers, weights: Floats) -> Mixed:
        """Steps 4d and 4e for given weights (B, K + 1)."""
        batch_size, slots = weights.shape
        soft_targets = np.zeros((batch_size, slots, self.num_classes))
        inputs = np.zeros((batch_size, *self.samples.shape[1:]))
        targets, averages = np.zeros((2, batch_size, self.num_classes))
        for b in range(batch_size):
            members = [indices[b], *neighbors[b]]
            for slot, member in enumerate(members):
                if member == MISSING:
                    continue
                soft_targets[b, slot] = self.soft_targets[member]
                inputs[b] += weights[b, slot] * self.samples[member]  # Eq. 4
                targets[b] += weights[b, slot] * self.soft_targets[member]  # Eq. 5
                averages[b] += weights[b, slot] * self.averages[member]
        return Mixed(neighbors, weights, soft_targets, inputs, targets, averages, self.early_learning, None)

    def correct(self, epoch: int, indices: Integers, probabilities: Floats) -> None:
        """Eq. 12 from E_s on, sample by sample; one that occurs several times takes a step towards its mean p."""
        if self.correction_epoch is None or epoch < self.correction_epoch:
            return
        self.move(self.soft_targets, indices, probabilities, self.momentum)

    def average(self, indices: Integers, probabilities: Floats) -> None:
        """Take predictions (B, C) into the averages."""
        likely = clipped(probabilities)
        likely /= likely.sum(axis=1, keepdims=True)
        self.move(self.averages, indices, likely, self.prediction_momentum)

    def move(self, rows: Floats, indices: Integers, probabilities: Floats, momentum: float) -> None:
        """Move the rows of some samples towards probabilities (B, C), each sample once."""
        for i in sorted(set(indices.tolist())):
            predictions = [p for j, p in zip(indices, probabilities, strict=True) if j == i]
            mean = sum(predictions, np.zeros(self.num_classes)) / len(predictions)
            rows[i] = momentum * rows[i] + (1 - momentum) * mean

    def weights(self, i: int, neighbors: Integers, posteriors: Floats) -> Floats:
        """Eq. 10 and 11 as the paper prints them: each member's share of ΣP.

        Equal shares where `uniform`, and where the paper's ratio would be 0/0. Where `doubt`, the sample keeps its P
        and only what is left of it is shared.
        """
        members = [i, *neighbors.tolist()]
        shares = []
        for member in members:
            if member == MISSING:
                shares.append(0.0)
            else:
                shares.append(1.0 if self.uniform else float(posteriors[member]))
        if sum(shares) == 0:
            shares = [float(member != MISSING) for member in members]
        weights = np.array(shares) / sum(shares)
        if self.doubt:
            weights *= 1 - posteriors[i]
            weights[0] += posteriors[i]
        return weights
