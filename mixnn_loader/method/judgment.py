"""What neighbors, the model and the training say of a label, put together: what a report tells.

Neighbors and the model are two opinions (see `mixnn_loader.method.opinions`). Both err where samples are hard to tell
apart, and a training that corrects labels makes the model agree with its own corrections. Two things set that right:

- The history of the training. A network predicts the given label of a hard sample now and then, and hardly ever that of
  a mislabeled one: the mean probability of the given label over the training tells them apart (the "confidence" of
  Swayamdipta et al., Dataset cartography, EMNLP 2020).
- The number of wrong labels. However sure the model is, no more labels are wrong than the neighbors allow for, where
  all that their agreement lacks is put down to labels. If there are more, all odds fall by one factor, as if labels
  were wrong less often beforehand (Saerens, Latinne and Decaestecker, Neural Computation 2002). The order stays.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mixnn_loader._utils.memory import CHUNK_ROWS
from mixnn_loader._utils.transfer import to_device
from mixnn_loader.method.opinions import combined
from mixnn_loader.method.posterior import label_posterior

MOST_CERTAIN = 1 - 1e-9
"""No label is wrong for sure: odds are finite."""

MOST_LOG_FACTOR = 30.0
"""Odds fall to no less than e to minus this times what they are."""

HALVINGS = 60


class Judgment(NamedTuple):
    """What the true labels are.

    Attributes:
        probabilities: (n, C) float32, of each class, rows summing to one.
        readings: (n, 3) float32, the probability that the given label is right by one opinion alone: by the neighbors'
            votes, where these are to blame for what their agreement lacks; by votes, where labels are; by the model.
        transition: (C, C) float32, how often a true class (row) was given as a class (column), by the neighbors.
    """

    probabilities: Tensor
    readings: Tensor
    transition: Tensor


def judge(shares: Tensor, labels: Tensor, predictions: Tensor, history: Tensor) -> Judgment:
    """Judge labels.

    Args:
        shares: (n, C) float, of the labels among a sample's neighbors, see `mixnn_loader.functional.vote_shares`.
        labels: (n,) int64, as given, on the same device.
        predictions: (n, C) float, of the model, rows summing to one, on the same device.
        history: (n,) float, the mean probability that the model has given to the label in training; NaN where it was
            never asked. On the same device.
    """
    posterior = label_posterior(shares, labels)
    least, most = (label_posterior(shares, labels, blame_labels=blame).probabilities for blame in (0, 1))
    readings = torch.stack([of_given(opinion, labels) for opinion in (least, most, predictions)], dim=1)
    neighbors_say_nothing = posterior.noise_rate == 0
    opinion = predictions.float().clone() if neighbors_say_nothing else combined(posterior.probabilities, predictions)
    wrong = (1 - of_given(opinion, labels)) * (1 - history.nan_to_num(0).clamp(0, 1))
    if not neighbors_say_nothing:
        wrong = at_most(wrong, float((1 - readings[:, 1]).double().sum()))
    return Judgment(with_doubt(opinion, labels, wrong), readings, posterior.transition)


def of_given(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return what probabilities (n, C) say of the given labels (n,), (n,) float32."""
    return probabilities.gather(1, labels.unsqueeze(1)).squeeze(1).float()


def at_most(wrong: Tensor, most: float) -> Tensor:
    """Lower the odds of all events by one factor, if more of them are expected than there can be.

    Args:
        wrong: (n,) float, the probability of each.
        most: how many there can be, at least 0.

    Returns:
        (n,) float32; as they were, where no more are expected.

    Example:
        >>> at_most(torch.tensor([0.5, 0.5, 0.8]), 1.0)
        tensor([0.2287, 0.2287, 0.5426])
    """
    probabilities = wrong.cpu().double().clamp(0, MOST_CERTAIN)
    if float(probabilities.sum()) <= most:
        return wrong.float()
    odds = probabilities / (1 - probabilities)
    low, high = -MOST_LOG_FACTOR, 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        scaled = odds * math.exp(middle)
        probabilities = scaled / (1 + scaled)
        low, high = (middle, high) if float(probabilities.sum()) < most else (low, middle)
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
