"""The true label of each sample, by its own given label and the vote of its neighbors: Bayes' rule.

All that the rule needs is estimated from the given labels. A sample does not vote for itself, so that its own label is
a test of the vote. Of the samples for which neighbors vote for one class c, and agree so much, a share q are of c. The
share whose own label is c, too, is then q T[c, c] + (1 - q) f, where T[c, c] is how often c was given as c, and f how
often other classes were. Where neighbors agree most, q is taken for one: that gives T. Estimating it from samples that
one is sure of is the idea of confident learning (Northcutt, Jiang and Chuang 2021).

Where neighbors agree less, so do they with the sample's own label, and there are two readings: these votes are wrong
more often, or these labels are. People err where samples are hard, and a network that has begun to memorize moves
samples with a wrong label away from the others of their class. Nothing but true labels would tell the readings apart:
by default half of what agreement lacks, as a factor, is put down to each, and no label is taken to be wrong more than
twice as often as those of which one is sure. So where labels are mostly right they are believed, however hard the
samples are.

What is assumed besides, and cannot be tested either: neighbors that agree most are right.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader._utils.checks import check_fraction
from mixnn_loader._utils.memory import CHUNK_ROWS
from mixnn_loader._utils.transfer import to_device

SURE_SHARE = 0.25
"""This part of the samples for which neighbors vote for a class, those whose neighbors agree most, is of that class."""

LEAST, MOST_OF_CHANCE = 1e-3, 0.98
"""Bounds of the share of wrong labels; the upper one in parts of what labels by chance have."""

MOST_CERTAIN = 0.999
"""No vote is more certain: else the given label would count for nothing."""

STANDARD_ERRORS = 3.0
"""Sure samples have to agree with their own labels so much more often than by chance."""

MOST_TIMES = 2.0
"""The label of a hard sample is wrong at most so many times as often as that of one whose neighbors agree most."""

LEAST_IMAGINED, MOST_IMAGINED = 1.0, 1e6
"""Samples of what is usual that are added to those of a class."""

MOST_BINS, BIN_SIZE = 100, 50


class Posterior(NamedTuple):
    """What the true labels are.

    Attributes:
        probabilities: (n, C) float32, rows summing to one. Where nobody was asked, or votes say nothing: 1 for the
            given label.
        noise_rate: the estimated share of wrong labels; 0 where votes say nothing.
        transition: (C, C) float32, how often a true class (row) was given as a class (column), rows summing to one; the
            identity where votes say nothing.
        trust: in [0, 1]: the share of wrong labels that votes in place of labels would mend, if all that agreement
            lacks were the votes' fault. It is 0 where votes would err as often as labels then, or more often.
    """

    probabilities: Tensor
    noise_rate: float
    transition: Tensor
    trust: float


class _Estimates(NamedTuple):
    """What follows from votes and labels, float64 on the CPU.

    Attributes:
        certainty: (n,), how often a vote like this one is right, if all that agreement lacks is the votes' fault.
        transition: (C, C), of labels where neighbors agree most.
        trust: see `Posterior`.
    """

    certainty: Tensor
    transition: Tensor
    trust: float


def label_posterior(shares: Tensor, labels: Tensor, *, blame_labels: float = 0.5) -> Posterior:
    """Estimate the probability of each class, given the votes of a sample's neighbors and its own label.

    Args:
        shares: (n, C) float, of the labels among its neighbors, itself excluded, see
            `mixnn_loader.functional.vote_shares`; zeros for a sample of whom nobody was asked.
        labels: (n,) int64, as given, on the same device.
        blame_labels: in [0, 1], the part of what agreement lacks that is put down to labels, and not to votes. 0 and 1
            give the least and the largest share of wrong labels that agreement allows for.

    Returns:
        `Posterior`, its tensors on the device of ``shares``.

    Raises:
        ValueError: ``blame_labels`` is outside its range.

    Example:
        >>> shares = torch.tensor([[0.9, 0.1]] * 90 + [[0.1, 0.9]] * 90)
        >>> labels = torch.tensor(([0] * 80 + [1] * 10) + ([1] * 80 + [0] * 10))
        >>> posterior = label_posterior(shares, labels)
        >>> posterior.probabilities.argmax(dim=1).unique_consecutive()
        tensor([0, 1])
    """
    check_fraction("blame_labels", blame_labels)
    num_classes, device = shares.shape[1], shares.device
    most, voted = shares.max(dim=1)
    asked = most.nonzero().squeeze(1)
    probabilities = torch.zeros(shares.shape, dtype=torch.float32, device=device).scatter_(1, labels.unsqueeze(1), 1)
    found = _estimated(most[asked].cpu().double(), voted[asked].cpu(), labels[asked].cpu(), num_classes)
    if found is None:
        return Posterior(probabilities, 0.0, torch.eye(num_classes, dtype=torch.float32, device=device), 0.0)
    certainties = to_device(found.certainty, device, torch.float32)
    transition = to_device(found.transition, device, torch.float32)
    kept = transition.diagonal()
    # To which class a label goes that is wrong.
    others = (transition - torch.diag(kept)) / (1 - kept).unsqueeze(1)
    least_kept, sum_kept = 1 - MOST_OF_CHANCE * (1 - 1 / num_classes), 0.0
    for rows, certainty in zip(torch.split(asked, CHUNK_ROWS), torch.split(certainties, CHUNK_ROWS), strict=True):
        most_kept = kept[voted[rows]]
        least_share = ((1 - MOST_TIMES * (1 - most_kept)) / most_kept).clamp_min(0)
        share_kept = torch.maximum(certainty.pow(blame_labels), least_share)
        own = (kept * share_kept.unsqueeze(1)).clamp_min(least_kept)  # the label is right, by class
        given = labels[rows].unsqueeze(1)
        likelihood = ((1 - own) * others[:, labels[rows]].T).scatter(1, given, own.gather(1, given))
        certain = (certainty / share_kept).clamp_max(MOST_CERTAIN)
        joint = _prior(shares[rows].float(), voted[rows], certain) * likelihood
        probabilities[rows] = joint / joint.sum(dim=1, keepdim=True)
        sum_kept += float(own.gather(1, voted[rows].unsqueeze(1)).sum())
    return Posterior(probabilities, 1 - sum_kept / len(asked), transition, found.trust)


def _prior(shares: Tensor, voted: Tensor, certainty: Tensor) -> Tensor:
    """Spread what is left of certainty over the other classes, as neighbors have voted, (n, C).

    None gets more than the class voted for; what is over goes to all others alike.
    """
    num_others = shares.shape[1] - 1
    voted, certainty = voted.unsqueeze(1), certainty.unsqueeze(1)
    # Nobody votes for most classes; a wrong vote may still be for any of them.
    others = (shares + LEAST / num_others).scatter(1, voted, 0)
    others *= (1 - certainty) / others.sum(dim=1, keepdim=True)
    others = torch.minimum(others, certainty)
    others += (1 - certainty - others.sum(dim=1, keepdim=True)).clamp_min(0) / num_others
    return others.scatter(1, voted, certainty)


def _estimated(most: Tensor, voted: Tensor, labels: Tensor, num_classes: int) -> _Estimates | None:
    """Estimate how certain votes are, and which class was given as which; None: votes say nothing.

    Args:
        most: (n,) float64, the share of the class voted for.
        voted: (n,) int64, that class.
        labels: (n,) int64, as given.
        num_classes: C.
    """
    if num_classes < 2 or len(labels) == 0:
        return None
    agrees = (voted == labels).double()
    sizes = torch.bincount(voted, minlength=num_classes)
    # By class, and within it by how much neighbors agree.
    order = most.argsort(stable=True)
    order = order[voted[order].argsort(stable=True)]
    classes = torch.split(order, sizes.tolist())
    sure = torch.zeros_like(labels, dtype=torch.bool)
    for rows in classes:
        if len(rows) > 0:  # all that agree as much as the last one of the quarter belong to it
            sure[rows] = most[rows] >= most[rows][int((1 - SURE_SHARE) * len(rows))]
    by_chance = float((torch.bincount(labels, minlength=num_classes) / len(labels))[voted[sure]].mean())
    error = STANDARD_ERRORS * (by_chance * (1 - by_chance) / int(sure.sum())) ** 0.5
    agreement = float(agrees[sure].mean())
    if agreement <= by_chance + error:
        return None
    counts = torch.bincount(voted[sure] * num_classes + labels[sure], minlength=num_classes**2)
    transition = _transition(counts.view(num_classes, num_classes).double())
    kept, weights = transition.diagonal(), sizes.double()
    left = (len(labels) - weights).clamp_min(1)
    false = ((weights.unsqueeze(1) * transition).sum(dim=0) - weights * kept) / left
    # The more often a class was given as such, the more a label that agrees says.
    gaps = (kept - false).clamp_min(error)[voted]
    true_share = (most - false[voted]) / gaps
    order = true_share.argsort(stable=True)
    right = ((agrees - false[voted]) / gaps)[order]
    certainty = torch.empty_like(most)
    certainty[order] = non_decreasing(right, gaps[order].square(), true_share[order])
    certainty = certainty.clamp(1 / num_classes, MOST_CERTAIN)
    least_rate = float((weights * (1 - kept)).sum() / len(labels))
    trust = min(max(1 - (1 - float(certainty.mean())) / least_rate, 0.0), 1.0)
    return _Estimates(certainty, transition, trust)


def _transition(counts: Tensor) -> Tensor:
    """Turn counts into shares, rows summing to one, (C, C).

    Classes are taken to be alike, and wrong labels evenly spread, as far as the counts could be so by chance.

    Args:
        counts: (C, C) float64, of true classes (rows) that were given as classes (columns).
    """
    num_classes = len(counts)
    sizes, kept = counts.sum(dim=1), counts.diagonal()
    chance = 1 - 1 / num_classes
    rate = min(max(1 - float(kept.sum() / sizes.sum()), LEAST), MOST_OF_CHANCE * chance)
    spread = float(((kept - sizes * (1 - rate)).square() / sizes.clamp_min(1)).sum()) / (rate * (1 - rate))
    imagined = _imagined(spread, int((sizes > 0).sum()) - 1, sizes)
    own = ((kept + imagined * (1 - rate)) / (sizes + imagined)).clamp(1 - MOST_OF_CHANCE * chance, 1 - LEAST)

    others = counts - torch.diag(kept)
    sizes = others.sum(dim=1)
    even = (1 - torch.eye(num_classes, dtype=torch.float64, device="cpu")) / (num_classes - 1)
    expected = sizes.unsqueeze(1) * even
    spread = float(((others - expected).square() / expected.clamp_min(1e-9)).sum())
    imagined = _imagined(spread, int((sizes > 0).sum()) * (num_classes - 2), sizes)
    shared = (others + imagined * even) / (sizes + imagined).unsqueeze(1)
    return (1 - own).unsqueeze(1) * shared + torch.diag(own)


def _imagined(spread: float, degrees: int, sizes: Tensor) -> float:
    """Return how many samples of what is usual each class gets: fewer the more classes differ.

    By the dispersion of Dirichlet-multinomial counts, which is 1 + (n - 1) / (m + 1) with m samples (Mosimann 1962).

    Args:
        spread: Pearson's chi-squared statistic of the counts against what is usual.
        degrees: its degrees of freedom.
        sizes: (C,) float64, samples a class.
    """
    mean = float(sizes.sum()) / max(int((sizes > 0).sum()), 1)
    dispersion = spread / degrees if degrees > 0 else 1.0
    if dispersion <= 1:
        return MOST_IMAGINED
    return min(max((mean - dispersion) / (dispersion - 1), LEAST_IMAGINED), MOST_IMAGINED)


def non_decreasing(values: Tensor, weights: Tensor, keys: Tensor) -> Tensor:
    """Fit the non-decreasing sequence that is nearest to a sequence, in bins of neighboring values.

    It is isotonic regression by its formula: the largest mean over the starts before, of the smallest mean over the
    ends behind (Robertson, Wright and Dykstra 1988, theorem 1.4.4). What has the same key gets the same value.

    Args:
        values: (n,) float64 on the CPU, n at least 1.
        weights: (n,) float64, above 0.
        keys: (n,) float64, ascending.

    Returns:
        (n,) float64.

    Example:
        >>> keys = torch.arange(4, dtype=torch.float64).repeat_interleave(50)
        >>> non_decreasing(keys.square(), torch.ones_like(keys), keys).unique()
        tensor([0., 1., 4., 9.], dtype=torch.float64)
    """
    num_bins = max(1, min(MOST_BINS, len(values) // BIN_SIZE))
    bin_of = torch.arange(len(values), device="cpu") * num_bins // len(values)
    # A bin has all that has its last key.
    is_last = torch.cat([keys[1:] != keys[:-1], torch.ones(1, dtype=torch.bool, device="cpu")])
    ends = is_last.nonzero().squeeze(1)
    bin_of = bin_of[ends[torch.searchsorted(ends, torch.arange(len(values), device="cpu"))]]
    masses, sums = (
        torch.zeros(num_bins, dtype=torch.float64, device="cpu").index_add(0, bin_of, part)
        for part in (weights, weights * values)
    )
    filled = masses > 0
    starts = functional.pad(masses[filled].cumsum(0), (1, 0)), functional.pad(sums[filled].cumsum(0), (1, 0))
    # Of the bins i to j, in row i and column j.
    lengths, totals = (part[1:] - part[:-1].unsqueeze(1) for part in starts)
    is_none = torch.ones_like(lengths, dtype=torch.bool).tril(-1)
    means = (totals / lengths).masked_fill(is_none, torch.inf)
    smallest = means.flip(1).cummin(dim=1).values.flip(1)
    fitted = smallest.masked_fill(is_none, -torch.inf).amax(dim=0)
    return fitted[filled.cumsum(0)[bin_of] - 1]
