"""The weights of a sample and its neighbors, from the probabilities that their labels are right (Eq. 10, 11)."""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from mixnn_loader._utils.checks import check_choice
from mixnn_loader._utils.transfer import to_device


class Weighting(Protocol):
    """How weights follow from the credibility of labels: a function, or an object that can be called like one."""

    def __call__(self, log_posteriors: Tensor, found: Tensor, rng: np.random.Generator) -> Tensor:
        """Weigh each sample of a batch against its neighbors.

        Args:
            log_posteriors: (B, K+1) float, log P(clean) of the sample (column 0) and of its neighbors; -inf for one
                that is surely wrong, or of which nothing is known.
            found: (B, K) bool, False for a neighbor that does not exist: its weight must be zero.
            rng: random numbers for this batch.

        Returns:
            (B, K+1) float on the same device, non-negative, rows summing to one.
        """
        ...


@dataclass(eq=False)
class MixtureWeights:
    """Proportional to the probability of being clean (Eq. 10, 11)."""

    def __call__(self, log_posteriors: Tensor, found: Tensor, rng: np.random.Generator) -> Tensor:
        """See `posterior_weights`."""
        del rng
        return posterior_weights(log_posteriors, found)


@dataclass(eq=False)
class DoubtWeights:
    """As far as the sample is doubted: a credible one is not mixed, whoever its neighbors are."""

    def __call__(self, log_posteriors: Tensor, found: Tensor, rng: np.random.Generator) -> Tensor:
        """See `doubt_weights`."""
        del rng
        return doubt_weights(log_posteriors, found)


@dataclass(eq=False)
class UniformWeights:
    """The same for the sample and each of its neighbors (ablation "averaged weights")."""

    def __call__(self, log_posteriors: Tensor, found: Tensor, rng: np.random.Generator) -> Tensor:
        """See `uniform_weights`."""
        del log_posteriors, rng
        return uniform_weights(found)


@dataclass(eq=False)
class BetaWeights:
    """λ from Beta(1, 1), the rest shared equally (ablation "random weights")."""

    def __call__(self, log_posteriors: Tensor, found: Tensor, rng: np.random.Generator) -> Tensor:
        """See `beta_weights`."""
        del log_posteriors
        own_weights = torch.from_numpy(rng.random(len(found), dtype=np.float32))
        return beta_weights(to_device(own_weights, found.device), found)


@dataclass(eq=False)
class DoubtMixupWeights:
    """As mixup, as far as the sample is doubted: λ' = P' + (1 - P') λ with a random λ of at least a half.

    P' is P times the mean P of the batch: where many labels are wrong, a credible one may be, too, and is mixed; where
    nearly all are right, nothing is lost by mixing.
    """

    def __call__(self, log_posteriors: Tensor, found: Tensor, rng: np.random.Generator) -> Tensor:
        """See `doubt_weights` and `beta_weights`."""
        credible = log_posteriors[:, 0].exp()
        credible = credible * credible.mean()
        return beta_weights(credible + (1 - credible) * to_device(_at_least_half(found, rng), found.device), found)


@dataclass(eq=False)
class MixupWeights:
    """A random λ of at least a half for the sample, whatever the credibility of labels: mixup, as MixMatch has it."""

    def __call__(self, log_posteriors: Tensor, found: Tensor, rng: np.random.Generator) -> Tensor:
        """See `beta_weights`."""
        del log_posteriors
        return beta_weights(to_device(_at_least_half(found, rng), found.device), found)


Weightings = Literal["mixture", "doubt", "uniform", "beta", "mixup", "doubt-mixup"]


def weighting_of(weighting: str | Weighting) -> Weighting:
    """Return the weighting of a name, or the caller's own.

    Raises:
        ValueError: there is no such name.
        TypeError: it is neither a name nor can it be called.
    """
    if isinstance(weighting, str):
        check_choice("weighting", weighting, get_args(Weightings))
        ready: dict[str, Weighting] = {
            "mixture": MixtureWeights(),
            "doubt": DoubtWeights(),
            "uniform": UniformWeights(),
            "beta": BetaWeights(),
            "mixup": MixupWeights(),
            "doubt-mixup": DoubtMixupWeights(),
        }
        return ready[weighting]
    if isinstance(weighting, type) or not callable(weighting):
        kind = f"the class {weighting.__name__}: call it first" if isinstance(weighting, type) else repr(weighting)
        raise TypeError(
            f"weighting must be one of {', '.join(map(repr, get_args(Weightings)))} or a function (log_posteriors, "
            f"found, rng) -> weights, got {kind}"
        )
    return weighting


def _at_least_half(found: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw λ or 1 - λ of Beta(1, 1), whichever is larger, (B,) float32 on the CPU."""
    drawn = rng.random(len(found), dtype=np.float32)
    return torch.from_numpy(np.maximum(drawn, 1 - drawn))


def posterior_weights(log_posteriors: Tensor, found: Tensor) -> Tensor:
    """Weights proportional to the probability of being clean (Eq. 10, 11).

    They are a softmax over log-posteriors: P / ΣP would be 0/0 where everybody is surely wrong. Where every P is
    exactly zero, the weights are equal.

    Args:
        log_posteriors: (B, K+1) float, log P(clean) of the sample (column 0) and of its neighbors.
        found: (B, K) bool, False for a neighbor that does not exist; its weight is zero.

    Returns:
        (B, K+1) float, rows summing to one.

    Example:
        >>> posterior_weights(torch.tensor([[0.6, 0.2]]).log(), torch.tensor([[True]]))
        tensor([[0.7500, 0.2500]])
    """
    logits = log_posteriors.clamp_min(torch.finfo(log_posteriors.dtype).min)
    logits[:, 1:].masked_fill_(~found, -torch.inf)
    return logits.softmax(dim=1)


def doubt_weights(log_posteriors: Tensor, found: Tensor) -> Tensor:
    """Mix a sample as far as it is doubted: λ' = P + (1 - P) λ with λ of Eq. 10; neighbors share the rest as in Eq. 11.

    Eq. 10 mixes two credible samples half and half, which costs accuracy where most labels are right.

    Args:
        log_posteriors: (B, K+1) float, log P(clean) of the sample (column 0) and of its neighbors.
        found: (B, K) bool, False for a neighbor that does not exist; its weight is zero.

    Returns:
        (B, K+1) float, rows summing to one.

    Example:
        >>> doubt_weights(torch.tensor([[0.6, 0.2]]).log(), torch.tensor([[True]]))
        tensor([[0.9000, 0.1000]])
    """
    doubt = 1 - log_posteriors[:, :1].exp()
    weights = doubt * posterior_weights(log_posteriors, found)
    weights[:, :1] += 1 - doubt
    return weights


def uniform_weights(found: Tensor) -> Tensor:
    """Equal weights for the sample and the neighbors that exist (ablation "averaged weights").

    Args:
        found: (B, K) bool.

    Returns:
        (B, K+1) float32, rows summing to one.
    """
    shape = (found.shape[0], found.shape[1] + 1)
    return posterior_weights(torch.zeros(shape, dtype=torch.float32, device=found.device), found)


def beta_weights(own_weights: Tensor, found: Tensor) -> Tensor:
    """A random λ for the sample, the rest shared equally among its neighbors (ablation "random weights").

    Args:
        own_weights: (B,) float, λ in [0, 1], drawn from Beta(1, 1), the uniform distribution.
        found: (B, K) bool. Where a sample has no neighbor at all, λ is one.

    Returns:
        (B, K+1) float, rows summing to one.
    """
    num_found = found.sum(dim=1)
    own = own_weights.masked_fill(num_found == 0, 1)
    share = (1 - own) / num_found.clamp_min(1)
    return torch.cat([own.unsqueeze(1), share.unsqueeze(1) * found], dim=1)
