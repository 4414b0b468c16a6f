"""Two Gaussians fitted to numbers in [0, 1]: expectation-maximization, by pomegranate (Eq. 8 and 9)."""

import contextlib
import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

VARIANCE_FLOOR = 1e-6
"""Added to both variances in every step, as scikit-learn's ``reg_covar``.

A component that has collapsed onto one value keeps a standard deviation of 0.001 of the normalized range, and the
likelihood stays bounded.
"""

MIN_STARTING_SHARE = 0.02
"""A side of the starting split with less than this is a tail, not a component."""

POSTERIOR_TOLERANCE = 1e-5
"""The fit ends when no posterior moves by more than this in a step.

They are wanted to 1e-3, and the steps still to come add up to more than the last one.
"""

MAX_STEPS = 150
"""Enough for means three standard deviations apart; components closer than that creep on for thousands of steps."""

MAX_FITTED_LOSSES = 65_536
"""Of a larger set, this many evenly spaced order statistics are fitted.

A mixture has five parameters: they give the same posteriors, mostly to 1e-4 and at worst to 1e-3, in a fraction of
the time. With 8,192 it would be 1e-2, where a component is small or narrow.
"""

Shares = tuple[Tensor, Tensor]
"""How much of each of N values either component accounts for: two (N,), with sum 1."""


@dataclass(frozen=True)
class Mixture:
    """Two Gaussians over normalized losses; index 0 is the clean component, the one with the smaller mean.

    Attributes:
        means: component means, ascending.
        variances: component variances, positive.
        priors: component weights, positive, with sum 1.
    """

    means: tuple[float, float]
    variances: tuple[float, float]
    priors: tuple[float, float]

    @property
    def separation(self) -> float:
        return math.sqrt(2) * abs(self.means[1] - self.means[0]) / math.sqrt(sum(self.variances))

    def density(self, normalized: Tensor) -> Tensor:
        """Each component's part of the density of Eq. 8, prior times Gaussian; their sum is the mixture's.

        Args:
            normalized: normalized losses (N,).

        Returns:
            (N, 2) float64.
        """
        return self._log_density(normalized).exp()

    def posterior(self, normalized: Tensor) -> Tensor:
        """P(clean) of each normalized loss: Eq. 9, made monotone.

        The log-odds of two Gaussians with unequal variances are a parabola in the loss: past its vertex the
        wider component wins again. Were that the wrong-label component, the smallest losses of all would count
        as wrong; were it the clean one, the largest would count as clean. A larger loss is never evidence for
        a clean label, so losses past the vertex get the posterior of the vertex. It lies below the clean mean
        or above the wrong one: between the means, and on the vertex's far side, this is Eq. 9 itself.

        Args:
            normalized: normalized losses (N,).

        Returns:
            (N,) float64 in [0, 1], non-increasing in the loss.
        """
        return self._log_odds(normalized).sigmoid()

    def log_posterior(self, normalized: Tensor) -> Tensor:
        """Log P(clean): `posterior` without its underflow, which far from the clean mean comes soon.

        Args:
            normalized: normalized losses (N,).

        Returns:
            (N,) float64, at most 0, non-increasing in the loss.
        """
        return functional.logsigmoid(self._log_odds(normalized))

    def _log_odds(self, normalized: Tensor) -> Tensor:
        normalized = normalized.to(torch.float64)
        clean_variance, wrong_variance = self.variances
        if clean_variance != wrong_variance:
            gap = self.means[1] - self.means[0]
            vertex = self.means[0] - gap * (clean_variance / (wrong_variance - clean_variance))
            if clean_variance < wrong_variance:
                normalized = normalized.clamp(min=vertex)
            else:
                normalized = normalized.clamp(max=vertex)
        log_clean, log_wrong = self._log_density(normalized).unbind(-1)
        return log_clean - log_wrong

    def _log_density(self, normalized: Tensor) -> Tensor:
        means, variances, priors = (
            torch.tensor(values, dtype=torch.float64, device=normalized.device)
            for values in (self.means, self.variances, self.priors)
        )
        deviations = normalized.to(torch.float64).unsqueeze(-1) - means  # (N, 2)
        return priors.log() - 0.5 * ((2 * math.pi * variances).log() + deviations**2 / variances)


def fit_mixture(normalized: Tensor) -> Mixture | None:
    """Fit two Gaussians to normalized losses by expectation-maximization (Eq. 8), in float64 on the CPU.

    Deterministic: it starts from the best split of the sorted losses in two, and draws no random number. Of
    more than `MAX_FITTED_LOSSES` losses, that many evenly spaced order statistics stand for all. Components that
    overlap so much that `MAX_STEPS` do not suffice are taken as they are then.

    Args:
        normalized: losses in [0, 1] (N,), see `normalize_losses`.

    Returns:
        The mixture, or None where the losses do not support two components: they are all the same, or one
        component has lost all its samples to the other.
    """
    ordered = _order_statistics(normalized)
    if len(ordered) == 0 or ordered[0] == ordered[-1]:
        return None
    # pomegranate creates its tensors on the default device, which the user may have changed. Where that is the CPU
    # it is not set again, because within such a block every call takes longer.
    on_cpu = torch.empty(0).device.type == "cpu"  # older releases' get_default_device does not see a `with` block
    with contextlib.nullcontext() if on_cpu else torch.device("cpu"):
        return _expectation_maximization(ordered)


def _order_statistics(normalized: Tensor) -> Tensor:
    """The sorted values, or the middle ones of `MAX_FITTED_LOSSES` equal runs of them, float64."""
    # NumPy sorts with the processor's vector instructions, up to 17 times as fast as PyTorch.
    ordered = torch.from_numpy(np.sort(normalized.detach().cpu().to(torch.float64).numpy()))
    if len(ordered) <= MAX_FITTED_LOSSES:
        return ordered
    middles = (torch.arange(MAX_FITTED_LOSSES, dtype=torch.float64, device="cpu") + 0.5) / MAX_FITTED_LOSSES
    return ordered[(middles * len(ordered)).long()]


def _expectation_maximization(ordered: Tensor) -> Mixture | None:
    """Fit sorted values (N,) until the posteriors stand still; None once a component is left without any."""
    values = ordered.unsqueeze(1)
    spread = _spread_by_floor(values)
    components = _new_components()
    shares = _starting_shares(ordered)
    for _ in range(MAX_STEPS):
        mixture = _maximization(components, spread, shares)
        if not _is_proper(mixture):
            return None
        updated = _expectation(components, values, mixture.priors)
        change = (updated[0] - shares[0]).abs().max()
        shares = updated
        if change < POSTERIOR_TOLERANCE:
            break
    return _by_mean(mixture)


def _starting_shares(ordered: Tensor) -> Shares:
    """Share sorted values (N,) out between two components, all or nothing.

    Of all splits of the sorted values in two, take the one whose two Gaussians have the largest classification
    likelihood (Kittler & Illingworth, "Minimum error thresholding", 1986). A split at a quantile would presume
    the noise rate, and 2-means presumes equal shares and variances: with 80 to 95 % wrong labels and narrow
    clean losses, the fit started from it ends by cutting the wrong-label component in two.
    """
    count = len(ordered)
    size = torch.arange(1, count, dtype=torch.float64)  # of the lower side of each split, (N - 1,)
    sums, squares = ordered.cumsum(0), (ordered**2).cumsum(0)
    lower_cost = _side_cost(size, sums[:-1], squares[:-1])
    upper_cost = _side_cost(count - size, sums[-1] - sums[:-1], squares[-1] - squares[:-1])
    smallest = min(math.ceil(MIN_STARTING_SHARE * count), count // 2)
    allowed = (size >= smallest) & (count - size >= smallest)
    split = int(torch.where(allowed, lower_cost + upper_cost, math.inf).argmin()) + 1
    lower = torch.arange(count) < split
    return lower.to(torch.float64), (~lower).to(torch.float64)


def _side_cost(size: Tensor, total: Tensor, squares: Tensor) -> Tensor:
    """One side's negative classification log-likelihood, less what all splits have in common; all (N - 1,)."""
    variance = (squares / size - (total / size) ** 2).clamp(min=0) + VARIANCE_FLOOR
    return size * (0.5 * variance.log() - size.log())


def _new_components() -> tuple[Any, Any]:
    """Two normal distributions of one variable, to be fitted again in every step: that is faster than new ones."""
    normal = _pomegranate_normal()
    # Parameters in float64 are not enough: pomegranate takes its dtype from a tensor of its own.
    first, second = (normal(covariance_type="diag", check_data=False).to(torch.float64) for _ in range(2))
    return first, second


@functools.cache
def _pomegranate_normal() -> Any:
    """Import the normal distribution.

    The import, which takes seconds, also brings in a library that sets the process's number of OpenMP threads,
    PyTorch's among them, to the number of cores. The number the user chose is put back.
    """
    num_threads = torch.get_num_threads()
    try:
        from pomegranate.distributions import Normal
    finally:
        torch.set_num_threads(num_threads)
    return Normal


def _spread_by_floor(values: Tensor) -> Tensor:
    """Two values for each of values (N, 1), one standard deviation of the floor below and above it: (2N, 1).

    However they are weighted, their mean is as before and their variance larger by `VARIANCE_FLOOR`. pomegranate has
    no floor of its own: of these values it fits components that have it, and rounding takes no variance below zero.
    """
    deviation = math.sqrt(VARIANCE_FLOOR)
    return torch.cat([values - deviation, values + deviation])


def _maximization(components: tuple[Any, Any], spread: Tensor, shares: Shares) -> Mixture:
    """Fit the components to their shares of the values, given as (2N, 1); the mixture keeps their order."""
    for component, share in zip(components, shares, strict=True):
        component.fit(spread, sample_weight=share.repeat(2).unsqueeze(1))
    first, second = components
    return Mixture(
        means=(float(first.means), float(second.means)),
        variances=(float(first.covs), float(second.covs)),
        priors=(float(shares[0].mean()), float(shares[1].mean())),
    )


def _expectation(components: tuple[Any, Any], values: Tensor, priors: tuple[float, float]) -> Shares:
    """Eq. 9 for both components, as they were fitted last, at values (N, 1)."""
    first, second = (component.log_probability(values) for component in components)
    log_odds = first - second + math.log(priors[0] / priors[1])
    # 1 less the first share would round a small second one to nothing.
    return log_odds.sigmoid(), (-log_odds).sigmoid()


def _is_proper(mixture: Mixture) -> bool:
    return all(math.isfinite(x) for x in mixture.means + mixture.variances) and min(mixture.priors) > 0


def _by_mean(mixture: Mixture) -> Mixture:
    """The same mixture with the smaller mean first: on the way, the components may have changed places."""
    components = sorted(zip(mixture.means, mixture.variances, mixture.priors, strict=True))
    return Mixture(*zip(*components, strict=True))
