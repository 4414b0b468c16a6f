"""A small task that the tests share: points in clusters, some labels wrong, and a network that takes a millisecond."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from mixnn_loader import MixNNTargets

NUM_FEATURES = 6
NUM_CLASSES = 3


class Points(Dataset[Any]):
    """Clustered points (N, 6) in three classes; a fifth of the labels are wrong."""

    def __init__(self, num_samples: int = 40, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.true_labels = torch.arange(num_samples) % NUM_CLASSES
        centers = 3 * torch.randn(NUM_CLASSES, NUM_FEATURES, generator=generator)
        self.inputs = centers[self.true_labels] + torch.randn(num_samples, NUM_FEATURES, generator=generator)
        self.labels = self.true_labels.clone()
        self.labels[::5] = (self.labels[::5] + 1) % NUM_CLASSES

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        return self.inputs[index], int(self.labels[index])


class Samples(Dataset[Any]):
    """Any list of samples as a map-style dataset."""

    def __init__(self, samples: Sequence[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


class MLP(nn.Module):
    """One hidden layer with BatchNorm and dropout; ``head`` is the classifier."""

    def __init__(self, num_features: int = NUM_FEATURES, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(num_features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(8, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, num_features) -> (B, num_classes)."""
        logits: Tensor = self.head(self.body(inputs))
        return logits


def mlp(seed: int = 0, num_features: int = NUM_FEATURES, num_classes: int = NUM_CLASSES) -> MLP:
    """Build the network from its own seed, and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MLP(num_features, num_classes)


def tensors_of(targets: MixNNTargets) -> dict[str, Tensor]:
    """Name all tensors of some targets."""
    names = ("soft_targets", "weights", "labels", "indices", "neighbors")
    return {name: getattr(targets, name) for name in names}
