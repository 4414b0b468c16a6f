"""Sequences of several lengths, and a batch sampler without which they cannot be collated."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

LENGTHS = (2, 3, 5)
NUM_CLASSES = 3


class Sequences(Dataset[Any]):
    """Points in classes, repeated as often as the sequence is long: (length, 4) each."""

    def __init__(self, count: int = 36) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(count) // len(LENGTHS) % NUM_CLASSES
        self.points = torch.eye(4)[self.labels] + 0.1 * torch.randn(count, 4, generator=generator)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        return self.points[index].repeat(LENGTHS[index % len(LENGTHS)], 1), int(self.labels[index])


class Buckets:
    """Batches of sequences of one length, in a random order; the last samples may be held out."""

    def __init__(self, count: int = 36, batch_size: int = 4) -> None:
        self.count, self.batch_size = count, batch_size

    def __iter__(self) -> Iterator[list[int]]:
        batches: list[list[int]] = []
        for kind in range(len(LENGTHS)):
            own = [index for index in torch.randperm(self.count).tolist() if index % len(LENGTHS) == kind]
            batches += [own[start : start + self.batch_size] for start in range(0, len(own), self.batch_size)]
        for place in torch.randperm(len(batches)).tolist():
            yield batches[place]

    def __len__(self) -> int:
        return sum(-(-len(range(kind, self.count, len(LENGTHS))) // self.batch_size) for kind in range(len(LENGTHS)))


class MeanModel(nn.Module):
    """Classifies the mean over a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, NUM_CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(inputs.mean(dim=1))
        return logits
