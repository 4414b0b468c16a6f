"""Label noise: transition matrices, and labels corrupted by them.

A noise model is its transition matrix T (C, C): T[i, j] = P(given label is j | true label is i). The
functions that corrupt labels build such a matrix and draw *each label independently* from its row. The share
of labels that change is therefore random around the nominal one; report `NoisyLabels.actual_rate`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixnn_loader._utils.checks import check_count, check_fraction
from mixnn_loader._utils.integers import as_integers
from mixnn_loader.datasets.cifar_classes import (
    CIFAR10_CLASSES,
    CIFAR10_CONFUSIONS,
    CIFAR100_CLASSES,
    CIFAR100_CONFUSIONS,
)

Labels = Sequence[int] | npt.NDArray[np.integer[Any]] | Tensor

_ROW_SUM_TOLERANCE = 1e-6
"""A float32 row of a thousand classes sums to one within 1e-7; a matrix typed with three decimals does not."""


@dataclass(frozen=True, eq=False)
class NoisyLabels:
    """Corrupted labels and how they came about.

    Attributes:
        labels: (N,) int64, the noisy labels.
        matrix: (C, C) float64, the nominal transition matrix that they were drawn from.
        is_noisy: (N,) bool, where the noisy label differs from the true one.
    """

    labels: Tensor
    matrix: Tensor
    is_noisy: Tensor

    @property
    def actual_rate(self) -> float:
        """Share of labels that really changed, in [0, 1]."""
        return self.is_noisy.double().mean().item()


def symmetric(labels: Labels, rate: float, num_classes: int, *, inclusive: bool = False, seed: int = 0) -> NoisyLabels:
    """Replace each label by a uniformly drawn one, by chance; see `symmetric_matrix`.

    Args:
        labels: (N,) true labels.
        rate: probability in [0, 1] that a label is redrawn.
        num_classes: C.
        inclusive: redraw among all C classes instead of the C-1 others.
        seed: same seed, same noise.

    Raises:
        TypeError: labels are not integers.
        ValueError: an argument is out of its range.

    Example:
        >>> noisy = symmetric([0, 1, 2, 3] * 500, rate=0.4, num_classes=4)
        >>> noisy.labels.shape, noisy.labels.dtype
        (torch.Size([2000]), torch.int64)
        >>> abs(noisy.actual_rate - 0.4) < 0.05
        True
    """
    return from_matrix(labels, symmetric_matrix(rate, num_classes, inclusive=inclusive), seed=seed)


def asymmetric(
    labels: Labels, rate: float, *, dataset: Literal["cifar10", "cifar100"] = "cifar10", seed: int = 0
) -> NoisyLabels:
    """Replace each label by that of a similar class, by chance; see `asymmetric_matrix`.

    Args:
        labels: (N,) true labels, ids in torchvision's order.
        rate: probability in [0, 1] that a label *of a class with a confusion* flips.
        dataset: whose confusions to use.
        seed: same seed, same noise.

    Raises:
        TypeError: labels are not integers.
        ValueError: an argument is out of its range.
    """
    return from_matrix(labels, asymmetric_matrix(rate, dataset=dataset), seed=seed)


def pairflip(labels: Labels, rate: float, num_classes: int, *, seed: int = 0) -> NoisyLabels:
    """Replace each label by the next class, by chance; see `pairflip_matrix`.

    Args:
        labels: (N,) true labels.
        rate: probability in [0, 1] that a label flips.
        num_classes: C.
        seed: same seed, same noise.

    Raises:
        TypeError: labels are not integers.
        ValueError: an argument is out of its range.
    """
    return from_matrix(labels, pairflip_matrix(rate, num_classes), seed=seed)


def from_matrix(labels: Labels, matrix: npt.ArrayLike | Tensor, *, seed: int = 0) -> NoisyLabels:
    """Draw each label independently from the row of its true class.

    Sample i always uses the i-th random number of the seed, so its noise does not depend on the other labels.

    Args:
        labels: (N,) true labels in [0, C).
        matrix: (C, C), non-negative, rows summing to one.
        seed: same seed, same noise.

    Raises:
        TypeError: labels are not integers.
        ValueError: the matrix is not square, not finite, negative or not row-stochastic, a label is outside
            [0, C), or the seed is negative.
    """
    transition = _checked_matrix(matrix)
    true = _checked_labels(labels, num_classes=len(transition))
    check_count("seed", seed)
    draws = np.random.default_rng(seed).random(len(true))
    cumulative = transition.cumsum(axis=1)
    # Exactly one at the end: a draw just below one cannot fall beyond the last class.
    cumulative /= cumulative[:, -1:]
    noisy = np.empty_like(true)
    for label in np.unique(true):
        members = true == label
        # side="right": a draw that ties with a cumulative sum must not pick a class of probability zero.
        noisy[members] = np.searchsorted(cumulative[label], draws[members], side="right")
    return NoisyLabels(
        labels=torch.from_numpy(noisy),
        matrix=torch.from_numpy(transition),
        is_noisy=torch.from_numpy(noisy != true),
    )


def symmetric_matrix(rate: float, num_classes: int, *, inclusive: bool = False) -> Tensor:
    """Transition matrix (C, C) of symmetric noise.

    Exclusive, the default and the paper's (Lu & He 2021): with probability ``rate`` the label becomes one of
    the *other* C-1 classes, so ``rate`` is the share of wrong labels. Inclusive, as in much released code: it
    becomes any of the C classes, its own among them, and the share of wrong labels is only ``rate * (C-1) / C``.

    Raises:
        ValueError: ``rate`` is outside [0, 1] or ``num_classes`` is below 2.

    Example:
        >>> symmetric_matrix(0.5, 3).tolist()
        [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]
        >>> symmetric_matrix(0.5, 2, inclusive=True).tolist()
        [[0.75, 0.25], [0.25, 0.75]]
    """
    check_fraction("rate", rate)
    check_count("num_classes", num_classes, 2)
    identity = torch.eye(num_classes, dtype=torch.float64, device="cpu")
    if inclusive:
        return (1 - rate) * identity + rate / num_classes
    return (1 - rate) * identity + rate / (num_classes - 1) * (1 - identity)


def asymmetric_matrix(rate: float, *, dataset: Literal["cifar10", "cifar100"] = "cifar10") -> Tensor:
    """Transition matrix (C, C) of class-dependent noise between similar classes.

    CIFAR-10: truck -> automobile, bird -> airplane, deer -> horse, cat <-> dog (Patrini et al. 2017). The
    other five classes stay clean, so on balanced data the share of wrong labels is half of ``rate``.
    CIFAR-100: every class becomes the next one of its superclass, the last the first. Some released code
    takes ids in blocks of five instead; ids are alphabetical, so those blocks are not the superclasses.

    Raises:
        ValueError: ``rate`` is outside [0, 1] or the dataset is unknown.
    """
    check_fraction("rate", rate)
    if dataset == "cifar10":
        return _flip_matrix(rate, CIFAR10_CLASSES, CIFAR10_CONFUSIONS)
    if dataset == "cifar100":
        return _flip_matrix(rate, CIFAR100_CLASSES, CIFAR100_CONFUSIONS)
    raise ValueError(f'dataset must be "cifar10" or "cifar100", got {dataset!r}; use from_matrix for others')


def pairflip_matrix(rate: float, num_classes: int) -> Tensor:
    """Transition matrix (C, C) of pair noise: class c becomes c+1 mod C (Han et al. 2018).

    Raises:
        ValueError: ``rate`` is outside [0, 1] or ``num_classes`` is below 2.
    """
    check_fraction("rate", rate)
    check_count("num_classes", num_classes, 2)
    identity = torch.eye(num_classes, dtype=torch.float64, device="cpu")
    return (1 - rate) * identity + rate * identity.roll(1, dims=1)


def transition_matrix(true: Labels, noisy: Labels, num_classes: int) -> Tensor:
    """Empirical transition matrix (C, C) float64: the share of each true class given each label (Fig. 6).

    A class without samples has a row of zeros; every other row sums to one.

    Args:
        true: (N,) true labels.
        noisy: (N,) given labels.
        num_classes: C.

    Raises:
        TypeError: labels are not integers.
        ValueError: lengths differ or a label is outside [0, C).

    Example:
        >>> transition_matrix([0, 0, 1, 1], [0, 1, 1, 1], num_classes=2).tolist()
        [[0.5, 0.5], [0.0, 1.0]]
    """
    check_count("num_classes", num_classes, 2)
    rows = _checked_labels(true, num_classes, name="true")
    columns = _checked_labels(noisy, num_classes, name="noisy")
    if len(rows) != len(columns):
        raise ValueError(f"true and noisy must have the same length, got {len(rows)} and {len(columns)}")
    counts = np.bincount(rows * num_classes + columns, minlength=num_classes**2).reshape(num_classes, num_classes)
    return torch.from_numpy(counts / counts.sum(axis=1, keepdims=True).clip(min=1))


def _flip_matrix(rate: float, classes: Sequence[str], flips: Mapping[str, str]) -> Tensor:
    matrix = torch.eye(len(classes), dtype=torch.float64, device="cpu")
    for source, target in flips.items():
        row, column = classes.index(source), classes.index(target)
        matrix[row, row] = 1 - rate
        matrix[row, column] = rate
    return matrix


def _checked_labels(labels: Labels, num_classes: int, *, name: str = "labels") -> npt.NDArray[np.int64]:
    array = as_integers(name, labels)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must have shape (N,) with N >= 1, got {array.shape}")
    outside = (array < 0) | (array >= num_classes)
    if outside.any():
        first = int(outside.argmax())
        raise ValueError(f"{name} must lie in [0, {num_classes}), got {array[first]} at index {first}")
    return array


def _checked_matrix(matrix: npt.ArrayLike | Tensor) -> npt.NDArray[np.float64]:
    source = matrix.detach().cpu().numpy() if isinstance(matrix, Tensor) else matrix
    array = np.array(source, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.size == 0:
        raise ValueError(f"matrix must be square (C, C), got shape {array.shape}")
    wrong = ~np.isfinite(array) | (array < 0)
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise ValueError(f"matrix must hold probabilities, got {array[row, column]} at [{row}, {column}]")
    sums = array.sum(axis=1)
    uneven = np.abs(sums - 1) > _ROW_SUM_TOLERANCE
    if uneven.any():
        row = int(uneven.argmax())
        raise ValueError(f"matrix rows must sum to one, got {sums[row]} for row {row}; divide each row by its sum")
    return array
