"""Two Beta distributions for losses scaled to [0, 1], of right and of wrong labels (Arazo et al., ICML 2019)."""

from typing import NamedTuple

import torch
from torch import Tensor

NUM_BINS, NUM_STEPS = 100, 10
SMALLEST_LOSS, LARGEST_LOSS = 1e-3, 1 - 1e-3  # scaled losses are kept off 0 and 1, where a density may be infinite


def scaled(losses: Tensor, loss_range: Tensor) -> Tensor:
    """Scale losses (n,) to [0, 1] by a range (2,), and keep them off the ends."""
    low, high = loss_range[0] + 1e-5, loss_range[1]
    return ((losses - low) / (high - low + 1e-6)).clamp(SMALLEST_LOSS, LARGEST_LOSS)


class BetaMixture(NamedTuple):
    """Two Beta distributions, that of wrong labels second.

    Attributes:
        a: (2,) float64, first shape parameters.
        b: (2,) float64, second shape parameters.
        shares: (2,) float64, summing to one.
    """

    a: Tensor
    b: Tensor
    shares: Tensor

    @property
    def is_usable(self) -> bool:
        """Whether the fit came to something: of losses that are all the same it does not."""
        return bool(all((part.isfinite() & (part > 0)).all() for part in self))

    def weighted_densities(self, values: Tensor) -> Tensor:
        """Return share times density (2, n) at values (n,) in (0, 1)."""
        a, b = self.a.unsqueeze(1), self.b.unsqueeze(1)
        log_norm = (a + b).lgamma() - a.lgamma() - b.lgamma()
        log_density = log_norm + (a - 1) * values.log() + (b - 1) * (-values).log1p()
        return self.shares.unsqueeze(1) * log_density.exp()


def fit_mixture(values: Tensor) -> BetaMixture:
    """Fit by EM, with weighted moments for the maximization, as many steps as published.

    Args:
        values: (n,) float64 in (0, 1).
    """
    half = torch.full((2,), 0.5, dtype=torch.float64)
    shape = torch.tensor([1.0, 2.0], dtype=torch.float64)
    mixture = BetaMixture(shape, shape.flip(0), half)
    for _ in range(NUM_STEPS):
        parts = mixture.weighted_densities(values).clamp(min=1e-12)
        parts = parts / parts.sum(dim=0)  # (2, n)
        totals = parts.sum(dim=1)
        mean = (parts * values).sum(dim=1) / totals
        variance = (parts * (values - mean.unsqueeze(1)).square()).sum(dim=1) / totals
        a = mean * (mean * (1 - mean) / variance - 1)
        mixture = BetaMixture(a, a * (1 - mean) / mean, totals / totals.sum())
    return mixture


def noise_table(mixture: BetaMixture) -> Tensor:
    """Return w at 100 equidistant scaled losses, (100,) float64; beyond the largest one it stays there."""
    values = torch.linspace(1e-12, 1 - 1e-12, NUM_BINS, dtype=torch.float64)
    densities = mixture.weighted_densities(values)
    noisy = densities[1] / (densities.sum(dim=0) + 1e-12)
    noisy[int(noisy.argmax()) :] = noisy.max()
    return noisy
