"""Two Gaussians fitted to numbers in [0, 1] by pomegranate's mixture model (Eq. 8 and 9).

Every step of expectation-maximization is one of `pomegranate.gmm.GeneralMixtureModel`'s `fit`. What losses need and it
lacks stands around it:

- A start. Its own is k-means from random samples, which fails on losses with many exact zeros: `_starting_split`.
- A variance floor. Its `Normal` accepts ``min_cov`` and ignores it: the components are distributions of our own.
- An end. Its ``tol`` looks at the log-likelihood, which may fall where a variance is held up by the floor: fits of
  narrow components would end with the first step. It is asked for a few steps at a time, until the posteriors
  stand still.
- Arithmetic in float64 and on the CPU, whatever PyTorch's defaults are.
- An answer for losses that do not support two components, on which it would raise an unrelated error or return NaN.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mixnn_loader._utils.random_state import kept_random_state

VARIANCE_FLOOR = 1e-6
"""Added to both variances in every step, as scikit-learn's ``reg_covar``.

A component that has collapsed onto one value keeps a standard deviation of 0.001 of the normalized range, and the
likelihood stays bounded.
"""

MIN_STARTING_SHARE = 0.02
"""A side of the starting split with less than this is a tail, not a component."""

STEPS_AT_A_TIME = 5
"""Between two looks at the posteriors: looks take time, and so do steps that were not needed."""

POSTERIOR_TOLERANCE = 1e-5
"""The fit ends when no posterior has moved by more than this between two looks.

They are wanted to 1e-3, and the steps still to come may add up to more than the last ones.
"""

MAX_STEPS = 150
"""Enough for means three standard deviations apart; components closer than that creep on for thousands of steps."""

MAX_POINTS = 4096
"""Of a larger set, the values are put into this many bins, and the bins' means are fitted.

What counts for a bin is half the range and half the number of values in it. None is wider than a 2048th of the range,
half the deviation that `VARIANCE_FLOOR` gives every component in any case, and where the values are dense, as in a
narrow component, bins are narrower. The posteriors are those of a fit to all values to a few 1e-5, and a step takes no
longer for ten million of them than for ten thousand.
"""


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
        """Ashman's D = √2 |μ1 - μ2| / √(s1² + s2²), s the standard deviations: below 2, the components do not separate.

        That is the distance of the means in units of the standard deviations' root mean square (Ashman, Bird & Zepf,
        "Detecting bimodality in astronomical datasets", 1994). The priors play no part in it.
        """
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

    Deterministic: it starts from the best split of the sorted losses in two, and draws no random number. More
    than `MAX_POINTS` losses are binned. Components that overlap so much that `MAX_STEPS` do not suffice are taken as
    they are then.

    Args:
        normalized: losses in [0, 1] (N,), see `normalize_losses`.

    Returns:
        The mixture, or None where the losses do not support two components: they are all the same, one of them is
        NaN or infinite, or one component has lost all its samples to the other.
    """
    values = normalized.detach().cpu().to(torch.float64)
    if len(values) == 0 or not values.isfinite().all() or values.min() == values.max():
        return None
    points, counts = _condense(values)
    default = torch.empty(())  # older releases' get_default_device does not see a `with` block
    is_usual = default.device.type == "cpu" and default.dtype == torch.float32
    # With the usual defaults set once more, the fit would be the same and take twice as long.
    with contextlib.nullcontext() if is_usual else _UsualDefaults():
        return _fit(points, counts)


def _condense(values: Tensor) -> tuple[Tensor, Tensor]:
    """Sort the values (N,), which are finite and not all the same, and bin them where they are many.

    Returns:
        (M,) ascending values and (M,) how many of ``values`` each stands for, both float64; M is N, or at most
        `MAX_POINTS`.
    """
    # NumPy sorts with the processor's vector instructions, up to 17 times as fast as PyTorch.
    ordered = np.sort(values.numpy())
    count = len(ordered)
    if count <= MAX_POINTS:
        return torch.from_numpy(ordered), torch.ones_like(values)
    low, high = ordered[[0, -1]]
    positions = (ordered - low) / (high - low) + np.arange(count) / count  # ascending, in [0, 2)
    bins = (positions * (MAX_POINTS / 2)).astype(np.int64)
    sizes, sums = np.bincount(bins), np.bincount(bins, weights=ordered)
    taken = sizes > 0
    return torch.from_numpy(sums[taken] / sizes[taken]), torch.from_numpy(sizes[taken].astype(np.float64))


def _fit(points: Tensor, counts: Tensor) -> Mixture | None:
    """Fit ascending points (M,) that stand for (M,) values each; None where one component loses all of them."""
    mixture_model, floored_normal = _pomegranate()
    split = _starting_split(points, counts)
    column, weights = points.unsqueeze(1), counts.unsqueeze(1)
    sides = (slice(None, split), slice(split, None))
    components = [floored_normal().fit(column[side], sample_weight=weights[side]) for side in sides]
    priors = torch.stack([counts[side].sum() for side in sides]) / counts.sum()
    # No improvement is below minus infinity: every call of `fit` takes all of its steps.
    model = mixture_model(components, priors, max_iter=STEPS_AT_A_TIME, tol=-math.inf, check_data=False)
    model = model.to(torch.float64)
    posterior = _as_mixture(model).posterior(points)
    for _ in range(MAX_STEPS // STEPS_AT_A_TIME):
        model.fit(column, sample_weight=weights)
        mixture = _as_mixture(model)
        if not _is_proper(mixture):
            return None
        before, posterior = posterior, mixture.posterior(points)
        if (posterior - before).abs().max() < POSTERIOR_TOLERANCE:
            break
    return mixture


def _starting_split(points: Tensor, counts: Tensor) -> int:
    """Divide ascending points (M,), of (M,) values each, between two components: how many the lower one gets.

    Of all splits of the sorted values in two, take the one whose two Gaussians have the largest classification
    likelihood (Kittler & Illingworth, "Minimum error thresholding", 1986). A split at a quantile would presume
    the noise rate, and 2-means presumes equal shares and variances: with 80 to 95 % wrong labels and narrow
    clean losses, the fit started from it ends by cutting the wrong-label component in two.
    """
    size, sums, squares = (x.cumsum(0) for x in (counts, counts * points, counts * points**2))
    lower = [x[:-1] for x in (size, sums, squares)]  # of each split, (M - 1,)
    upper = [x[-1] - x[:-1] for x in (size, sums, squares)]
    smallest = min(math.ceil(MIN_STARTING_SHARE * size[-1].item()), size[-1].item() // 2)
    allowed = (lower[0] >= smallest) & (upper[0] >= smallest)
    cost = _side_cost(*lower) + _side_cost(*upper)
    if allowed.any():  # a point that stands for nearly all values cannot be split
        cost = cost.masked_fill(~allowed, math.inf)
    return int(cost.argmin()) + 1


def _side_cost(size: Tensor, total: Tensor, squares: Tensor) -> Tensor:
    """One side's negative classification log-likelihood, less what all splits have in common; all (M - 1,)."""
    variance = (squares / size - (total / size) ** 2).clamp(min=0) + VARIANCE_FLOOR
    return size * (0.5 * variance.log() - size.log())


@functools.cache
def _pomegranate() -> tuple[Any, Any]:
    """Import the mixture model, and make a component for it.

    The import, which takes seconds, also brings in libraries that set the process's number of OpenMP threads, PyTorch's
    among them, to the number of cores, and that draw from Python's generator. What the user has is put back.
    """
    num_threads = torch.get_num_threads()
    try:
        with kept_random_state():
            from pomegranate.distributions import Normal
            from pomegranate.gmm import GeneralMixtureModel
    finally:
        torch.set_num_threads(num_threads)

    class FlooredNormal(Normal):  # type: ignore[misc]  # published without type information
        """A normal distribution of one variable with a variance floor, in the form that pomegranate's models take."""

        def __init__(self) -> None:
            super().__init__(means=[0.0], covs=[1.0], covariance_type="diag", check_data=False)
            self.mean, self.variance = 0.0, 1.0
            self.sums = torch.zeros(3, dtype=torch.float64, device="cpu")

        def log_probability(self, values: Tensor) -> Tensor:
            """(M, 1) -> (M,)."""
            deviations = values.squeeze(1) - self.mean
            return deviations.square() * (-0.5 / self.variance) - 0.5 * math.log(2 * math.pi * self.variance)

        def summarize(self, values: Tensor, sample_weight: Tensor) -> None:
            """Add (M, 1) values, of (M, 1) weights, to the sums that the parameters follow from."""
            moments = torch.cat([torch.ones_like(values), values, values.square()], dim=1)
            self.sums = self.sums + (moments * sample_weight).sum(dim=0)

        def from_summaries(self) -> None:
            """Take the mean and the variance of what was summarized; without any, they are NaN."""
            size, total, squares = self.sums.tolist()
            self.mean = total / size if size > 0 else math.nan
            self.variance = max(squares / size - self.mean**2, 0) + VARIANCE_FLOOR if size > 0 else math.nan
            self.sums = torch.zeros_like(self.sums)

    return GeneralMixtureModel, FlooredNormal


class _UsualDefaults(TorchFunctionMode):
    """Within it, the tensors that pomegranate makes without a type or a device are float32 and on the CPU.

    The user may have changed PyTorch's defaults. Setting them for a while would change them for other threads too.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call ``func`` with what it was not told."""
        del types
        kwargs = kwargs or {}
        if func is torch.zeros:
            kwargs = {"dtype": torch.float32, "device": "cpu"} | kwargs
        elif func is torch.tensor:
            kwargs = {"device": "cpu"} | kwargs
        return func(*args, **kwargs)


def _as_mixture(model: Any) -> Mixture:
    """Read the parameters, the smaller mean first: on the way, the components may have changed places."""
    first, second = model.distributions
    means, variances = (first.mean, second.mean), (first.variance, second.variance)
    components = sorted(zip(means, variances, model.priors.tolist(), strict=True))
    return Mixture(*zip(*components, strict=True))


def _is_proper(mixture: Mixture) -> bool:
    return all(math.isfinite(x) for x in mixture.means + mixture.variances) and min(mixture.priors) > 0
