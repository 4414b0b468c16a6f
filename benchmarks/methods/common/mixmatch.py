"""Targets and loss of DivideMix, which are those of MixMatch (Berthelot et al., NeurIPS 2019), for labels in doubt."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.learner import Learner
from benchmarks.methods.common.semi_supervised import sharpen


@torch.no_grad()
def guess(learners: Sequence[Learner], views: Sequence[Tensor]) -> Tensor:
    """Return the mean softmax (B, C) of some networks for some views (B, ...) of the same samples."""
    guesses = [torch.softmax(learner(view), dim=1) for learner in learners for view in views]
    return torch.stack(guesses).mean(dim=0)


def refined(given: Tensor, clean: Tensor, guessed: Tensor, temperature: float) -> Tensor:
    """Return the targets (B, C) of labeled samples.

    Args:
        given: (B, C) one-hot labels.
        clean: (B,) P.
        guessed: (B, C) probabilities.
        temperature: T.
    """
    share = clean.unsqueeze(1)
    return sharpen(share * given + (1 - share) * guessed, temperature)


def semi_supervised_loss(logits: Tensor, targets: Tensor, num_labeled: int, unlabeled_weight: float) -> Tensor:
    """Return the loss of MixMatch, with the penalty for unevenly used classes.

    Args:
        logits: (B, C), of labeled samples first.
        targets: (B, C).
        num_labeled: how many are labeled.
        unlabeled_weight: λ_u in this step.
    """
    probabilities = logits.softmax(dim=1)
    loss = functional.cross_entropy(logits[:num_labeled], targets[:num_labeled])
    if num_labeled < len(logits):
        loss = loss + unlabeled_weight * functional.mse_loss(probabilities[num_labeled:], targets[num_labeled:])
    mean = probabilities.mean(dim=0)
    return loss - mean.log().mean() - math.log(len(mean))
