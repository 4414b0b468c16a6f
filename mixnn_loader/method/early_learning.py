"""Early-learning regularization: hold on to what the model predicted before it began to memorize.

Liu, Niles-Weed, Razavian and Fernandez-Granda, "Early-learning regularization prevents memorization of noisy labels",
NeurIPS 2020: e_i <- β e_i + (1-β) p_i, starting from zero, and λ mean log(1 - <e_i, p_i>) is added to the loss. Here
samples are mixed, and their averages e with them, by the same weights.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixnn_loader.method.mixing import mix_targets
from mixnn_loader.method.soft_targets import moving_average

CLIP = 1e-4
"""Probabilities stay this far from 0 and 1, so that the logarithm has an end."""

MOST_CLIPPED = 0.01
"""What all classes together may take from a certain prediction by this; it counts for more than a hundred classes."""


@dataclass(frozen=True, eq=False)
class EarlyLearning:
    """What the loss needs for the term of one batch of B samples with K neighbors each, over C classes.

    Attributes:
        averages: (B, K+1, C) float, e of the sample itself (column 0) and of its neighbors. A row sums to one at most:
            less in the first epochs, as the average starts from zero.
        strength: λ >= 0.
        momentum: β in [0, 1], where the averages have yet to take in a prediction, which is then that of the training
            step; None where they have taken in the loader's own.
    """

    averages: Tensor
    strength: float
    momentum: float | None

    def term(self, logits: Tensor, weights: Tensor) -> Tensor:
        """Compute λ log(1 - <ẽ, p̃>) of each sample, at most 0; the gradient goes through p̃ alone.

        Args:
            logits: (B, C) float32 or wider, the model's output for the mixed inputs.
            weights: (B, K+1) float, which mix the averages as they mixed the inputs.

        Returns:
            (B,).
        """
        mixed = mix_targets(self.averages.to(logits.dtype), weights.to(logits.dtype))
        probabilities = _clipped(logits)
        if self.momentum is not None:
            mixed = moving_average(mixed, _summing_to_one(probabilities.detach()), self.momentum)
        return self.strength * (1 - (mixed * probabilities).sum(dim=1)).clamp_min(CLIP).log()


def prediction(logits: Tensor) -> Tensor:
    """Return what an average takes in, (B, C): the clipped softmax of logits (B, C), rows summing to one."""
    return _summing_to_one(_clipped(logits))


def changed_predictions(before: Tensor, after: Tensor) -> Tensor:
    """Count the samples whose likeliest class is another after a step than before it.

    Args:
        before: (B, C) float, averages; a row of zeros says nothing yet, and is not looked at.
        after: (B, C) float, those after the step, on the same device.

    Returns:
        (2,) float32, the samples that have changed, and all that were looked at.
    """
    is_known = before.any(dim=1)
    has_changed = is_known & (before.argmax(dim=1) != after.argmax(dim=1))
    return torch.stack([has_changed.sum(), is_known.sum()]).float()


def _clipped(logits: Tensor) -> Tensor:
    # Of many classes it would take most of a certain prediction away: of 10,000 a half.
    least = min(CLIP, MOST_CLIPPED / logits.shape[1])
    return logits.softmax(dim=1).clamp(least, 1 - least)


def _summing_to_one(probabilities: Tensor) -> Tensor:
    return probabilities / probabilities.sum(dim=1, keepdim=True)
