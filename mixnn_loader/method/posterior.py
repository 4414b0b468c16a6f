"""The true label of each sample, by its own given label and the vote of its neighbors: Bayes' rule.

All that the rule needs is estimated from the given labels. A sample does not vote for itself, so that its own label is
a test of the vote: of samples whose neighbors agree so much, the share whose label is the one voted for grows with the
share q of right votes as q (1 - r) + (1 - q) r / (C - 1), where r is the share of wrong labels. Where neighbors agree
most, q is taken for one. That gives r, then q for the others, and which class is taken for which. Estimating the
latter from samples that one is sure of is the idea of confident learning (Northcutt, Jiang and Chuang, JAIR 2021).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader._utils.memory import CHUNK_ROWS

SURE_SHARE = 0.25
"""Of all samples, and of those of a class: where neighbors agree most. Their votes are taken for right."""

PRIOR_COUNT = 20.0
"""So many samples of each class are imagined whose labels are wrong evenly: with few sure ones they prevail."""

LEAST_RATE, MOST_OF_CHANCE = 1e-3, 0.98
"""Bounds of the share of wrong labels; the upper one in parts of what labels by chance have."""

MOST_CERTAIN = 0.999
"""No vote is more certain: else the given label would count for nothing."""

MOST_BINS, BIN_SIZE = 100, 50


class Posterior(NamedTuple):
    """What the true labels are.

    Attributes:
        probabilities: (n, C) float32, rows summing to one.
        noise_rate: share of wrong labels, 0-d float32.
        transition: (C, C) float32, how often a true class (row) was given as a class (column), rows summing to one.
        trust: in [0, 1], 0-d float32: the share of wrong labels that votes in place of labels would mend. It is 0 where
            votes err as often as labels, or more often.
    """

    probabilities: Tensor
    noise_rate: Tensor
    transition: Tensor
    trust: Tensor


def label_posterior(shares: Tensor, labels: Tensor) -> Posterior:
    """Estimate the probability of each class, given the votes of a sample's neighbors and its own label.

    Args:
        shares: (n, C) float, of the labels among its neighbors, itself excluded, see
            `mixnn_loader.functional.vote_shares`.
        labels: (n,) int64, as given, on the same device; n at least 1, C at least 2.

    Example:
        >>> shares = torch.tensor([[0.9, 0.1]] * 90 + [[0.1, 0.9]] * 90)
        >>> labels = torch.tensor(([0] * 80 + [1] * 10) + ([1] * 80 + [0] * 10))
        >>> posterior = label_posterior(shares, labels)
        >>> posterior.probabilities.argmax(dim=1).unique_consecutive()
        tensor([0, 1])
    """
    num_classes = shares.shape[1]
    most, voted = shares.float().max(dim=1)
    agrees = (voted == labels).float()
    order = most.argsort(stable=True)
    chance = 1 - 1 / num_classes
    sure = order[-max(1, int(SURE_SHARE * len(order))) :]
    rate = (1 - agrees[sure].mean()).clamp(LEAST_RATE, max(LEAST_RATE, MOST_OF_CHANCE * chance))
    by_chance = rate / max(num_classes - 1, 1)
    agreement = torch.empty_like(agrees)
    agreement[order] = non_decreasing(agrees[order])
    certainty = ((agreement - by_chance) / (1 - rate - by_chance)).clamp(1 / num_classes, MOST_CERTAIN)
    transition = _transition(voted, most, labels, rate, num_classes)
    parts = []
    for rows in torch.split(torch.arange(len(labels), device=labels.device), CHUNK_ROWS):
        others = shares[rows].float().scatter(1, voted[rows].unsqueeze(1), 0)
        # Nobody votes for most classes; a wrong vote may still be for any of them.
        others = (others + LEAST_RATE).scatter(1, voted[rows].unsqueeze(1), 0)
        others *= ((1 - certainty[rows]) / others.sum(dim=1).clamp_min(LEAST_RATE)).unsqueeze(1)
        prior = others.scatter(1, voted[rows].unsqueeze(1), certainty[rows].unsqueeze(1))
        joint = prior * transition[:, labels[rows]].T
        parts.append(joint / joint.sum(dim=1, keepdim=True))
    trust = (1 - (1 - certainty.mean()) / rate).clamp(0, 1)
    return Posterior(torch.cat(parts), rate, transition, trust)


def non_decreasing(values: Tensor) -> Tensor:
    """Fit the non-decreasing sequence that is nearest to a sequence, in bins of neighboring values.

    It is isotonic regression by its formula: the largest mean over the starts before, of the smallest mean over the
    ends behind (Robertson, Wright and Dykstra 1988, theorem 1.4.4).

    Args:
        values: (n,) float, n at least 1.

    Returns:
        (n,) float.

    Example:
        >>> non_decreasing(torch.arange(4.0).repeat_interleave(50)).unique()
        tensor([0., 1., 2., 3.])
    """
    bins = torch.tensor_split(values, max(1, min(MOST_BINS, len(values) // BIN_SIZE)))
    counts = torch.tensor([len(part) for part in bins], dtype=torch.int64, device=values.device)
    zero = torch.zeros(1, dtype=torch.float64, device=values.device)
    sums = torch.cat([zero, torch.stack([part.double().sum() for part in bins]).cumsum(0)])
    ends = torch.cat([zero, counts.double().cumsum(0)])
    lengths = ends[1:] - ends[:-1].unsqueeze(1)  # of the bins i to j, in row i and column j; at most 0 where j < i
    means = ((sums[1:] - sums[:-1].unsqueeze(1)) / lengths).masked_fill(lengths <= 0, torch.inf)
    smallest = means.flip(1).cummin(dim=1).values.flip(1)
    fitted = smallest.masked_fill(lengths <= 0, -torch.inf).amax(dim=0)
    return fitted.repeat_interleave(counts).to(values.dtype)


def _transition(voted: Tensor, most: Tensor, labels: Tensor, rate: Tensor, num_classes: int) -> Tensor:
    """Count the labels of the samples that are surest of each class, (C, C)."""
    even = torch.full((num_classes, num_classes), 1.0, dtype=torch.float32, device=labels.device)
    even *= rate / max(num_classes - 1, 1)
    even.fill_diagonal_(0).diagonal().add_(1 - even.sum(dim=1))
    # By class, and within it by how much neighbors agree: the last quarter of each class.
    order = most.argsort(stable=True)
    order = order[voted[order].argsort(stable=True)]
    sizes = torch.bincount(voted, minlength=num_classes)
    place = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[voted[order]]
    sure = order[place >= ((1 - SURE_SHARE) * sizes[voted[order]]).floor()]
    counts = torch.bincount(voted[sure] * num_classes + labels[sure], minlength=num_classes**2)
    counts = counts.view(num_classes, num_classes).float()
    return functional.normalize(counts + PRIOR_COUNT * even, p=1.0, dim=1)
