"""Samples that fit into memory as one tensor, transformed by whole batches."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.datasets import VisionDataset

BatchTransform = Callable[[Tensor], Tensor]
"""``samples (B, ...) -> samples (B, ...)``."""


class InMemoryDataset(VisionDataset):
    """Samples and labels as two tensors; a batch is indexed and transformed at once.

    Small images are read and augmented one by one in more time than a small network takes for its training step. A
    `torch.utils.data.DataLoader` asks this dataset for whole batches, by ``__getitems__``.

    Args:
        inputs: (N, ...) of any type; images as uint8 (N, C, H, W) take the least memory.
        targets: N class indices.
        transform: what a batch goes through, ``(B, ...) -> (B, ...)``; it draws from PyTorch's global generator.

    Attributes:
        inputs: (N, ...), untransformed.
        targets: (N,) int64.

    Raises:
        ValueError: there are not as many targets as inputs.

    Example:
        >>> dataset = InMemoryDataset(torch.arange(6).reshape(3, 2), [0, 1, 0], transform=lambda batch: 10.0 * batch)
        >>> dataset[1]
        (tensor([20., 30.]), 1)
    """

    def __init__(
        self, inputs: Tensor, targets: Sequence[int] | Tensor, transform: BatchTransform | None = None
    ) -> None:
        super().__init__(transform=transform)
        self.inputs = inputs
        self.targets = torch.as_tensor(targets, dtype=torch.int64)
        if len(self.targets) != len(inputs):
            raise ValueError(f"there must be a target for each of the {len(inputs)} inputs, got {len(self.targets)}")

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Return the samples of a batch, transformed together."""
        rows = torch.as_tensor(indices, dtype=torch.int64)
        inputs = self.inputs[rows]
        if self.transform is not None:
            inputs = self.transform(inputs)
        return list(zip(inputs, self.targets[rows].tolist(), strict=True))

    def with_targets(self, targets: Sequence[int] | Tensor) -> "InMemoryDataset":
        """Return the same samples with other labels, such as noisy ones."""
        return InMemoryDataset(self.inputs, targets, self.transform)

    def with_transform(self, transform: BatchTransform | None) -> "InMemoryDataset":
        """Return the same samples with another transform."""
        return InMemoryDataset(self.inputs, self.targets, transform)

    def first(self, count: int) -> "InMemoryDataset":
        """Return the first so many samples."""
        return InMemoryDataset(self.inputs[:count], self.targets[:count], self.transform)

    def extra_repr(self) -> str:
        """Tell the shape of a sample."""
        return f"Inputs: {tuple(self.inputs.shape[1:])}, {self.inputs.dtype}"


def images_of(dataset: Any) -> Tensor:
    """Return the images of one of torchvision's in-memory datasets, such as `CIFAR10` or `MNIST`: (N, C, H, W) uint8.

    Raises:
        TypeError: the dataset has no ``data`` of that kind.
    """
    data = torch.as_tensor(getattr(dataset, "data", None) if hasattr(dataset, "data") else [])
    if data.dim() == 3:  # (N, H, W)
        return data.unsqueeze(1)
    if data.dim() == 4 and data.shape[3] == 3:  # (N, H, W, C)
        return data.permute(0, 3, 1, 2).contiguous()
    raise TypeError(f"{type(dataset).__name__} does not keep images in memory as .data, (N, H, W) or (N, H, W, 3)")
