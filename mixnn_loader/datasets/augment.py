"""Augmentation of whole batches of images: a tensor operation a batch rather than a picture at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def random_flip(images: Tensor) -> Tensor:
    """Mirror each image (B, C, H, W) from left to right with probability one half."""
    mirrored = torch.rand(len(images), dtype=torch.float32, device=images.device) < 0.5
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)


def random_crop(images: Tensor, padding: int) -> Tensor:
    """Shift each image (B, C, H, W) by up to ``padding`` pixels in both directions, and fill in zeros.

    The same as padding with zeros on all sides and cutting out a window of the old size at random.
    """
    height, width = images.shape[2:]
    padded = functional.pad(images, [padding] * 4)
    offsets = torch.randint(2 * padding + 1, (2, len(images), 1), device=images.device)
    rows = offsets[0] + torch.arange(height, device=images.device)  # (B, H)
    columns = offsets[1] + torch.arange(width, device=images.device)  # (B, W)
    which = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    return padded.permute(0, 2, 3, 1)[which, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)


class ImageTransform:
    """Images uint8 (B, C, H, W) -> float32, augmented and normalized.

    Args:
        mean: of each channel, of pixels in [0, 1].
        std: standard deviation of each channel.
        flip: mirror half of the images.
        crop_padding: shift images by up to so many pixels; 0: don't.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], *, flip: bool = False, crop_padding: int = 0
    ) -> None:
        self.mean, self.std = (torch.tensor(each, dtype=torch.float32, device="cpu") for each in (mean, std))
        self.flip, self.crop_padding = flip, crop_padding

    def __call__(self, images: Tensor) -> Tensor:
        """Transform a batch."""
        if self.crop_padding:
            images = random_crop(images, self.crop_padding)
        if self.flip:
            images = random_flip(images)
        mean, std = (each.to(images.device).view(-1, 1, 1) for each in (self.mean, self.std))
        return (images.float() / 255 - mean) / std


def channel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation of each channel of uint8 images (N, C, H, W), of pixels in [0, 1]."""
    counts = torch.stack(
        [torch.bincount(images[:, channel].flatten(), minlength=256) for channel in range(images.shape[1])]
    )
    shares = counts.double() / counts.sum(dim=1, keepdim=True)  # (C, 256)
    values = torch.arange(256, dtype=torch.float64, device=images.device) / 255
    mean = shares @ values
    variance = shares @ values.square() - mean.square()
    return mean.tolist(), variance.clamp(min=0).sqrt().tolist()
