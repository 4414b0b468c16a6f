"""From per-sample losses to P(clean): a two-component Gaussian mixture (Lu & He 2021, Eq. 8 and 9)."""

import math

import numpy as np
import torch
from torch import Tensor

from mixnn_loader._utils.warn_once import WarnOnce
from mixnn_loader.method.gaussian_mixture import Mixture, fit_mixture

CLIP_QUANTILE = 0.999
"""Losses above this quantile are clipped: a share far below that of wrong labels worth treating, outliers only."""

NEUTRAL_POSTERIOR = 0.5
"""P(clean) of every sample where the losses say nothing about which labels are wrong.

Any constant gives equal weights in Eq. 10 and 11; this one claims neither that all labels are clean nor that all are
wrong.
"""


def normalize_losses(losses: Tensor) -> Tensor:
    """Clip the largest losses, then scale to [0, 1] by minimum and maximum.

    The clip is there because cross-entropy has no upper bound: a single outlier would otherwise be the
    maximum, squeeze all other losses into a sliver next to zero, and pull the wide component towards itself.
    Losses above the `CLIP_QUANTILE` (the smallest loss that this share of the losses does not exceed) count as
    that quantile. For fewer than 1,000 losses it is the maximum, as a single one may be the only wrong label;
    the maximum is also kept where the clip would leave no two losses different.

    Args:
        losses: finite losses (N,), N >= 1.

    Returns:
        (N,) float64 on the device of ``losses``; all zeros if the losses are all the same.

    Raises:
        ValueError: ``losses`` is not a non-empty vector of finite numbers.

    Example:
        >>> normalize_losses(torch.tensor([2.0, 1.0, 5.0]))
        tensor([0.2500, 0.0000, 1.0000], dtype=torch.float64)
    """
    _check_vector(losses)
    if not losses.isfinite().all():
        count = int((~losses.isfinite()).sum())
        raise ValueError(f"losses must be finite, got {count} of {len(losses)} NaN or infinite; leave them out")
    losses = losses.detach().to(torch.float64)
    low = losses.min()
    # torch.quantile refuses more than 16 million elements; kthvalue does not, but under
    # torch.use_deterministic_algorithms it refuses CUDA tensors.
    high = losses.cpu().kthvalue(math.ceil(CLIP_QUANTILE * len(losses))).values.to(losses.device)
    if high == low:
        high = losses.max()
    if high == low:
        return torch.zeros_like(losses)
    return (losses.clamp(max=high) - low) / (high - low)


def log_clean_posterior(losses: Tensor, warn: WarnOnce | None = None) -> tuple[Tensor, Mixture | None]:
    """Log P(clean) of every sample from its loss against the given label (Eq. 8 and 9).

    The logarithm, because Eq. 10 and 11 need the ratio of two P that may both be too small for float32. Samples
    whose loss is NaN or infinite get P(clean) = 0 and take no part in the fit. Where no mixture can be fitted, as
    when the losses are all the same, the others get `NEUTRAL_POSTERIOR`. Of two distinct values the small one gets
    1 and the large one 0. If one value makes up half the losses or more (memorized samples reach a loss of exactly
    zero), a component may collapse onto it; `VARIANCE_FLOOR` then sets its width.

    Args:
        losses: losses (N,), N >= 1, of any floating dtype, on any device.
        warn: gives the warnings, each once for all calls with the same ``warn``; None: in every call.

    Returns:
        log P(clean) (N,), float32 on the device of ``losses``, and the mixture, None where it could not be fitted.

    Raises:
        RuntimeError: no loss is finite.
        ValueError: ``losses`` is not a non-empty vector.

    Warns:
        RuntimeWarning: no mixture could be fitted, or half the losses or more are the same value.
    """
    _check_vector(losses)
    # To the CPU first: not every device has float64.
    values = losses.detach().cpu().to(torch.float64)
    finite = values.isfinite()
    if not finite.any():
        raise RuntimeError(
            f"all {len(losses)} losses are NaN or infinite: the model has diverged; "
            "lower the learning rate or look for bad inputs"
        )
    warn = WarnOnce() if warn is None else warn
    normalized = normalize_losses(values[finite])
    mixture = fit_mixture(normalized)
    if mixture is None:
        warn(
            "two components could not be fitted to the losses (are they all the same?): "
            f"P(clean) is {NEUTRAL_POSTERIOR} for every sample with a finite loss"
        )
    elif _half_are_the_same(normalized):
        warn(
            "half of the losses or more are the same value: P(clean) may tell little else than this value "
            "from the others; has the model memorized its training set?"
        )
    log_posterior = torch.full_like(values, -torch.inf)
    log_posterior[finite] = math.log(NEUTRAL_POSTERIOR) if mixture is None else mixture.log_posterior(normalized)
    return log_posterior.to(torch.float32).to(losses.device), mixture


def _check_vector(losses: Tensor) -> None:
    if losses.ndim != 1 or len(losses) == 0:
        raise ValueError(f"losses must have shape (N,) with N >= 1, got {tuple(losses.shape)}")


def _half_are_the_same(values: Tensor) -> bool:
    """Whether one value makes up half of ``values`` (N,) or more: in order, one of the two middle ones would be it."""
    count = len(values)
    middles = [(count - 1) // 2, count // 2]
    return any(2 * int((values == x).sum()) >= count for x in np.partition(values.numpy(), middles)[middles])
