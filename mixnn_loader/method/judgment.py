"""What neighbors, the model and the training say of a label, put together: what a report tells.

Neighbors and the model are two opinions (see `mixnn_loader.method.opinions`). Both err where samples are hard to tell
apart, and a training that corrects labels makes the model agree with its own corrections. Two things set that right:

- The order, by the history of the training. A network predicts the given label of a hard sample now and then, and a
  wrong label more seldom: the mean probability of the given label over the training tells them apart (the "confidence"
  of Swayamdipta et al., Dataset cartography, EMNLP 2020). The probability that a label is wrong is multiplied by one
  minus that mean. How low it is for wrong labels depends on how far the network has memorized them, so that the
  expected number of wrong labels stays that of the two opinions.
- This number, by a bound. However sure the model is, no more wrong labels are expected than the neighbors alone expect
  where what their agreement lacks is put down to labels, and a standard error.

The number is set by one factor for the odds of all, as if labels were wrong more or less often beforehand (Saerens,
Latinne and Decaestecker, Neural Computation 2002). It changes no order.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mixnn_loader._utils.memory import CHUNK_ROWS
from mixnn_loader._utils.transfer import to_device
from mixnn_loader.method.opinions import combined
from mixnn_loader.method.posterior import SURE_SHARE, label_posterior

MOST_CERTAIN = 1 - 1e-9
"""The largest probability whose odds are scaled."""

MOST_LOG_FACTOR = 30.0
"""Odds change by e to plus or minus this at most."""

HALVINGS = 60
"""Of the interval in which that factor is looked for."""

MOST_PROBABLE = 0.99
"""No history makes a label certain."""

LEAST_DOUBT = 1e-12
"""Where nobody is doubted, the mean over the doubted comes out as 0."""


class Judgment(NamedTuple):
    """What the true labels are.

    Attributes:
        probabilities: (n, C) float32, of each class, rows summing to one.
        suspicion: (n,) float32, by which to order: the larger, the less likely the given label is right. Unlike a
            probability close to one it tells small doubts apart.
        readings: (n, 3) float32, the probability that the given label is right by one opinion alone: by the neighbors'
            votes, where these are to blame for what their agreement lacks; by votes, where labels are; by the model.
        transition: (C, C) float32, how often a true class (row) was given as a class (column), by the neighbors.
    """

    probabilities: Tensor
    suspicion: Tensor
    readings: Tensor
    transition: Tensor


def judge(shares: Tensor, labels: Tensor, predictions: Tensor, label_probability: Tensor) -> Judgment:
    """Judge labels.

    Args:
        shares: (n, C) float, of the labels among a sample's neighbors, see `mixnn_loader.functional.vote_shares`.
        labels: (n,) int64, as given, on the same device.
        predictions: (n, C) float, of the model, rows summing to one, on the same device.
        label_probability: (n,) float, the mean probability that the model has given to the label in training; NaN
            where it was never asked: such a sample counts as the doubted ones do on average. On the same device.
    """
    # One after the other: (n, C) may be large.
    least, most = (
        of_given(label_posterior(shares, labels, blame_labels=blame).probabilities, labels) for blame in (0, 1)
    )
    readings = torch.stack([least, most, of_given(predictions, labels)], dim=1)
    votes, noise_rate, transition, _ = label_posterior(shares, labels)
    says_nothing = noise_rate == 0
    opinion = predictions.to(torch.float32, copy=True) if says_nothing else combined(votes, predictions)
    del votes
    pooled = of_others(opinion, labels)
    known = label_probability.isfinite()
    doubted = float((pooled[known] * label_probability[known]).sum() / pooled[known].sum().clamp_min(LEAST_DOUBT))
    suspicion = pooled * (1 - label_probability.where(known, doubted).clamp(0, MOST_PROBABLE))
    expected = float(pooled.cpu().double().sum())
    if not says_nothing:
        expected = min(expected, with_error(float((1 - most).cpu().double().sum()), len(labels)))
    wrong = with_total(suspicion, expected)
    return Judgment(with_doubt(opinion, labels, wrong), suspicion, readings, transition)


def with_error(number: float, num_samples: int) -> float:
    """Add a standard error to the number of wrong labels that the neighbors expect.

    It is that of a share which was seen in the `SURE_SHARE` of the samples of which they are surest, and at the least
    that of a single wrong label among these.

    Example:
        >>> round(with_error(100.0, 1000)), round(with_error(0.0, 1000))
        (119, 4)
    """
    num_sure = max(SURE_SHARE * num_samples, 1.0)
    share = min(max(number / num_samples, 1 / num_sure), 0.5)
    return number + num_samples * math.sqrt(share * (1 - share) / num_sure)


def of_given(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return what probabilities (n, C) say of the given labels (n,), (n,) float32."""
    return probabilities.gather(1, labels.unsqueeze(1)).squeeze(1).float()


def of_others(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return what probabilities (n, C) leave for other labels than the given ones (n,), (n,) float32.

    One minus that of the given label would be zero for small doubts.
    """
    left = torch.empty(len(labels), dtype=torch.float32, device=labels.device)
    parts = (torch.split(tensor, CHUNK_ROWS) for tensor in (left, probabilities, labels))
    for rows, some, own in zip(*parts, strict=True):
        rows.copy_(some.float().scatter(1, own.unsqueeze(1), 0).sum(dim=1))
    return left


def with_total(wrong: Tensor, total: float) -> Tensor:
    """Change the odds of all events by one factor, so that so many of them are expected.

    Args:
        wrong: (n,) float, the probability of each.
        total: how many, from 0 to the number of those that are possible at all.

    Returns:
        (n,) float32.

    Example:
        >>> with_total(torch.tensor([0.5, 0.5, 0.8]), 1.0)
        tensor([0.2287, 0.2287, 0.5426])
    """
    probabilities = wrong.cpu().double().clamp(0, MOST_CERTAIN)
    odds = probabilities / (1 - probabilities)
    low, high = -MOST_LOG_FACTOR, MOST_LOG_FACTOR
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        scaled = odds * math.exp(middle)
        probabilities = scaled / (1 + scaled)
        low, high = (middle, high) if float(probabilities.sum()) < total else (low, middle)
    return to_device(probabilities, wrong.device, torch.float32)


def with_doubt(probabilities: Tensor, labels: Tensor, wrong: Tensor) -> Tensor:
    """Make the probability that the given label is wrong what it is to be, and leave the others' proportions.

    Args:
        probabilities: (n, C) float32, rows summing to one; changed in place.
        labels: (n,) int64, on the same device.
        wrong: (n,) float32, on the same device.

    Returns:
        ``probabilities``. Where nothing was left for other classes, they share what there is now.
    """
    num_others = max(probabilities.shape[1] - 1, 1)
    parts = (torch.split(tensor, CHUNK_ROWS) for tensor in (probabilities, labels.unsqueeze(1), wrong.unsqueeze(1)))
    for rows, own, left in zip(*parts, strict=True):
        rows.scatter_(1, own, 0)
        others = rows.sum(dim=1, keepdim=True)
        rows.copy_(torch.where(others > 0, rows / others, 1 / num_others) * left)
        rows.scatter_(1, own, 1 - left)
    return probabilities
