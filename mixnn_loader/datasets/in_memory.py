"""Samples that fit into memory as one tensor, transformed by whole batches."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torchvision.datasets import VisionDataset
from torchvision.transforms.functional import pil_to_tensor

from mixnn_loader._utils.integers import as_integers

BatchTransform = Callable[[Tensor], Tensor]
"""``samples (B, ...) -> samples (B, ...)``."""


class InMemoryDataset(VisionDataset):  # type: ignore[misc]  # torchvision comes without types
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
        TypeError: targets are not integers.
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
        self.targets = torch.from_numpy(as_integers("targets", targets))
        if len(self.targets) != len(inputs):
            raise ValueError(f"there must be a target for each of the {len(inputs)} inputs, got {len(self.targets)}")

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Return the samples of a batch, transformed together."""
        rows = torch.as_tensor(indices, dtype=torch.int64, device="cpu")
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
    data = torch.as_tensor(getattr(dataset, "data", []), device="cpu")
    if data.dim() == 3:  # (N, H, W)
        return data.unsqueeze(1)
    if data.dim() == 4 and data.shape[3] == 3:  # (N, H, W, C)
        return data.permute(0, 3, 1, 2).contiguous()
    raise TypeError(f"{type(dataset).__name__} does not keep images in memory as .data, (N, H, W) or (N, H, W, 3)")


def read_images(dataset: Any, transform: BatchTransform | None = None) -> InMemoryDataset:
    """Read all images of a dataset into one tensor.

    Args:
        dataset: N samples (PIL image, label), with images of one size; without a transform.
        transform: what batches of the images go through, see `InMemoryDataset`.

    Returns:
        The images as uint8 (N, C, H, W), in the same order.

    Raises:
        TypeError: a sample is not a PIL image.
        ValueError: there are no samples, or an image has another size or number of channels than the first one.
    """
    images, labels = torch.empty(0, dtype=torch.uint8, device="cpu"), list[int]()
    for row in range(len(dataset)):
        image, label = dataset[row]
        if not isinstance(image, Image):
            raise TypeError(
                f"samples must be PIL images, got {type(image).__name__}; leave the dataset's transform out"
            )
        pixels = pil_to_tensor(image)
        if row == 0:
            images = torch.empty(len(dataset), *pixels.shape, dtype=pixels.dtype, device="cpu")
        if pixels.shape != images.shape[1:]:
            raise ValueError(
                f"images must have one size to be kept in memory, got {tuple(images.shape[1:])} for sample 0 and "
                f"{tuple(pixels.shape)} for sample {row}"
            )
        images[row] = pixels
        labels.append(int(label))
    if not labels:
        raise ValueError("there are no images to read")
    return InMemoryDataset(images, labels, transform)
