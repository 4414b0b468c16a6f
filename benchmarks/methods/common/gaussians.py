"""Normal distributions of the classes' features, from samples of which some are wrong (Lee et al., ICML 2019)."""

import torch
from torch import Tensor, nn


class Gaussians(nn.Module):
    """A normal distribution for each class, all of one covariance.

    Args:
        num_classes: C.
        num_features: d.

    Attributes:
        means: (C, d) float64.
        precision: (d, d) float64, the inverse of the covariance.
    """

    means: Tensor
    precision: Tensor

    def __init__(self, num_classes: int, num_features: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(num_classes, num_features, dtype=torch.float64))
        self.register_buffer("precision", torch.eye(num_features, dtype=torch.float64))

    def fit(self, features: Tensor, labels: Tensor, kept: float) -> None:
        """Fit to features (N, d) of given labels (N,), keeping a share of each class."""
        features = features.double()
        # On the CPU, so that every device draws the same.
        order = torch.randperm(len(features)).to(features.device)
        self._estimate(features, labels, [rows[: int(kept * len(rows))] for rows in self._by_class(labels, order)])
        scores = self.scores(features, labels)
        order = scores.argsort(descending=True)
        self._estimate(features, labels, [rows[: int(kept * len(rows))] for rows in self._by_class(labels, order)])

    def _by_class(self, labels: Tensor, order: Tensor) -> list[Tensor]:
        return [order[labels[order] == label] for label in range(len(self.means))]

    def _estimate(self, features: Tensor, labels: Tensor, rows_by_class: list[Tensor]) -> None:
        covariance = torch.zeros_like(self.precision)
        for label, rows in enumerate(rows_by_class):
            if len(rows) == 0:
                continue
            self.means[label] = features[rows].mean(dim=0)
            centered = features[rows] - self.means[label]
            covariance += (labels == label).sum() / len(labels) * (centered.T @ centered) / len(rows)
        # The features are of single precision: what is below that is no direction in which they vary.
        tolerance = len(covariance) * torch.finfo(torch.float32).eps
        self.precision.copy_(torch.linalg.pinv(covariance, rtol=tolerance, hermitian=True))

    def scores(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return -(f-μ)ᵀ S⁻¹ (f-μ) of features (n, d) and the means of their labels (n,), (n,) float64."""
        centered = features.double() - self.means[labels]
        return -((centered @ self.precision) * centered).sum(dim=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return p(c | f) (n, C) float64 of features (n, d); all classes are equally likely beforehand."""
        weights = self.means @ self.precision
        return (features.double() @ weights.T - (weights * self.means).sum(dim=1) / 2).softmax(dim=1)
