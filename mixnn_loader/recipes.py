"""Named sets of arguments of `mixnn_loader.MixNNDataLoader`: plain dicts, so that one sees what one gets.

    loader = MixNNDataLoader(loader, model, **recipes.robust(epochs=100))

What was measured of each stands in the README.
"""

import math
from typing import Any

from torch import Tensor, nn

from mixnn_loader._utils.checks import check_count
from mixnn_loader.run.settings import CORRECTION_SHARE, WARMUP_SHARE, in_proportion

SCANS, FEW_SCANS = 20, 8
"""At most so many in a training, of `robust` and of `fast`."""


def robust(epochs: int) -> dict[str, Any]:
    """Take what protects best, whatever share of the labels is wrong, for little more than plain training costs.

    Up to twenty times in a training the dataset is scanned, and the nearest neighbors of each sample are asked for
    their given labels. What they say, and how often they are right, gives the probability of each label. The target
    follows it, at first as far as neighbors err less often than labels, and more the longer the training goes on:
    nearly all the way, unless the training is too short to memorize labels. A doubted sample is mixed with a random
    other one of its batch, and the loss holds the model to the average of what it has said of each sample. Targets and
    inputs are left alone until the model has settled, for an eighth of the training at most, or more of a short one.
    Besides the scans the loader makes no forward pass: it goes by the training step, so that the loss must be
    `mixnn_loader.MixNNLoss`.

    Args:
        epochs: how long the training will be.

    Raises:
        ValueError: it is no integer >= 1.

    Example:
        >>> robust(epochs=60)["warmup_epochs"]
        'settled'
    """
    check_count("epochs", epochs, 1)
    return {
        "epochs": epochs,
        "warmup_epochs": "settled",
        "correction_epoch": 0,
        "neighbors": "random-batch",
        "weighting": "doubt-mixup",
        "credibility": "vote",
        "correct_by": "credibility",
        "scan": "training",
        "scan_every": _every(epochs, SCANS),
        "early_learning": 3.0,
    }


def fast(epochs: int) -> dict[str, Any]:
    """Take `robust` with eight scans at most: a scan is all that the recipe adds to the training step.

    Args:
        epochs: how long the training will be.

    Raises:
        ValueError: it is no integer >= 1.

    Example:
        >>> fast(epochs=60)["scan_every"], robust(epochs=60)["scan_every"]
        (8, 3)
    """
    return robust(epochs) | {"scan_every": _every(epochs, FEW_SCANS)}


def features(epochs: int) -> dict[str, Any]:
    """Take `robust` for inputs that are features of a frozen network, and a small network on top of them.

    Such features know nothing of the labels, whereas the small network comes to know the wrong ones: samples with the
    same wrong label grow alike in it. So neighbors are asked among the features themselves. They err where samples look
    alike, as people do; the average of what the model has said of a sample is a second opinion, and a label gives way
    where both are against it.

    Args:
        epochs: how long the training will be.

    Raises:
        ValueError: it is no integer >= 1.

    Example:
        >>> features(epochs=20)["credibility"]
        'vote-and-model'
    """
    return robust(epochs) | {"feature_layer": by_inputs, "credibility": "vote-and-model"}


def by_inputs(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits, and the inputs (B, ...) as representations (B, d): a ``feature_layer``."""
    return model(inputs), inputs.flatten(start_dim=1)


def paper(epochs: int = 300) -> dict[str, Any]:
    """Take what the paper has for CIFAR-10, in proportion: W is a thirtieth of the training and E_s a fifth.

    These are the defaults of the loader, except for the search: theirs is HNSW, of nmslib, which has to be installed.

    Args:
        epochs: how long the training will be.

    Raises:
        ValueError: it is no integer >= 1.

    Example:
        >>> paper()["warmup_epochs"], paper()["correction_epoch"]
        (10, 60)
    """
    check_count("epochs", epochs, 1)
    return {
        "epochs": epochs,
        "warmup_epochs": in_proportion(epochs, WARMUP_SHARE),
        "correction_epoch": in_proportion(epochs, CORRECTION_SHARE),
        "num_neighbors": 1,
        "momentum": 0.9,
        "neighbors": "dataset",
        "search": "hnsw",
        "weighting": "mixture",
        "credibility": "mixture",
        "correct_by": "prediction",
        "scan": "epoch",
    }


def released_code(epochs: int = 300) -> dict[str, Any]:
    """Take what is nearest to the authors' released code: `paper`, with the nearest neighbor in the mini-batch.

    The code does more that is not in the paper, such as mixup before E_s, and steps of the targets in every tenth epoch
    alone. That is not in the loader, but in the benchmarks.

    Args:
        epochs: how long the training will be.

    Raises:
        ValueError: it is no integer >= 1.
    """
    return {name: value for name, value in paper(epochs).items() if name != "search"} | {"neighbors": "batch"}


def _every(epochs: int, scans: int) -> int:
    """Return the distance at which so many scans, and no more, are made in some epochs; not in every one."""
    return max(2, math.ceil(epochs / scans))
