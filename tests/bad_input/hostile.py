"""What the tests of bad input share."""

import torch
from torch import Tensor
from toy import MLP, Points

from mixnn_loader import MixNNDataLoader


class Poisoned(MLP):
    """Gives NaN, or an infinity, for the inputs whose first feature is above a threshold."""

    def __init__(self, threshold: float, poison: float) -> None:
        super().__init__()
        self.threshold, self.poison = threshold, poison

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, num_features) -> (B, num_classes)."""
        factor = torch.where(inputs[:, :1] > self.threshold, self.poison, 1.0)
        logits: Tensor = self.head(self.body(inputs) * factor)
        return logits


def run(loader: MixNNDataLoader, epochs: int = 1) -> None:
    for _ in range(epochs):
        for _ in loader:
            pass


def tensors() -> tuple[Tensor, Tensor]:
    """Return the toy points and their labels."""
    points = Points()
    return points.inputs, points.labels
