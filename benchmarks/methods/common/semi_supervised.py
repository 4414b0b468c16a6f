"""What the semi-supervised methods share: mixup, sharpening, averaged weights, balanced classes."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Item = TypeVar("Item")


class Mix(NamedTuple):
    """A batch, each sample mixed with another one.

    Attributes:
        inputs: (B, ...).
        targets: (B, C).
        share: λ, of each sample itself; at least 0.5.
        partners: (B,) int64, places in the batch of the others.
    """

    inputs: Tensor
    targets: Tensor
    share: float
    partners: Tensor


def mix(inputs: Tensor, targets: Tensor, alpha: float) -> Mix:
    """Mix a batch with itself in a random order, λ = max(l, 1 - l) with l from Beta(alpha, alpha), one for all.

    Args:
        inputs: (B, ...).
        targets: (B, C) soft labels.
        alpha: of the Beta distribution.
    """
    drawn = float(np.random.beta(alpha, alpha))
    share = max(drawn, 1 - drawn)
    partners = torch.randperm(len(inputs), device=inputs.device)
    return Mix(
        share * inputs + (1 - share) * inputs[partners],
        share * targets + (1 - share) * targets[partners],
        share,
        partners,
    )


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """Raise (B, C) probabilities to the power 1 / temperature, and let each row sum to 1 again."""
    raised = probabilities ** (1 / temperature)
    return raised / raised.sum(dim=1, keepdim=True)


def ramp_up(step: float, length: float) -> float:
    """Rise from exp(-5) at step 0 to 1 at `length`, along exp(-5 (1 - step / length)²)."""
    return math.exp(-5 * (1 - min(step / length, 1)) ** 2) if length > 0 else 1.0


@torch.no_grad()
def average_weights(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move a running average of a network's weights: average <- decay * average + (1 - decay) * network.

    Running statistics, as of BatchNorm, are left alone: the averaged network gathers its own when it is used in train
    mode. The official codes of Mean Teacher and of ELR+ do so.
    """
    for averaged, current in zip(average.parameters(), network.parameters(), strict=True):
        averaged.lerp_(current, 1 - decay)


def balanced(labels: Tensor) -> Tensor:
    """Return places in `labels` (n,) such that each class that is there comes as often as the most frequent one.

    All samples come, those of small classes several times. Which of a class come once more than the rest is drawn.
    """
    places = [torch.nonzero(labels == label).flatten() for label in labels.bincount().nonzero()]
    size = max((len(of_class) for of_class in places), default=0)
    drawn = list[Tensor]()
    for of_class in places:
        shuffled = of_class[torch.randperm(len(of_class), device=labels.device)]
        drawn.append(shuffled.repeat(math.ceil(size / len(of_class)))[:size])
    return torch.cat(drawn) if drawn else torch.empty(0, dtype=torch.int64, device=labels.device)


def endless(items: Iterable[Item]) -> Iterator[Item]:
    """Go through items, such as a loader's batches in an order that is new each time, again and again."""
    while True:
        yield from items
