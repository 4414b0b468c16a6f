"""Named sets of arguments of `mixnn_loader.MixNNDataLoader`: plain dicts, so that one sees what one gets.

    loader = MixNNDataLoader(loader, model, **recipes.robust(epochs=100))

What was measured of each stands in the README.
"""

from typing import Any

from mixnn_loader._utils.checks import check_count

ROBUST_WARMUP_SHARE = 1 / 12
"""Of the training; warm-up is over before most networks have memorized a tenth of the wrong labels."""


def robust(epochs: int) -> dict[str, Any]:
    """Take what protects best at the cost of plain training, whatever share of the labels is wrong.

    No forward pass is made besides the training step. Each sample is mixed with a random other one of its batch; the
    loss holds the model to the average of what it has said of the sample so far; and targets follow that average as far
    as it speaks against the given label. The loss must be `mixnn_loader.MixNNLoss`.

    Args:
        epochs: how long the training will be.

    Raises:
        ValueError: it is no integer >= 2.

    Example:
        >>> robust(epochs=60)["warmup_epochs"]
        5
    """
    check_count("epochs", epochs, 2)
    warmup = max(1, round(epochs * ROBUST_WARMUP_SHARE))
    return {
        "epochs": epochs,
        "warmup_epochs": warmup,
        "correction_epoch": warmup,
        "neighbors": "random-batch",
        "weighting": "mixup",
        "credibility": "agreement",
        "correct_by": "credibility",
        "scan": "training",
        "early_learning": 3.0,
    }
