"""Augmentation of whole batches: shapes, and that it is random for each image."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mixnn_loader.datasets.augment import ImageTransform, channel_statistics, random_crop, random_flip


def images(count: int = 64, channels: int = 3, height: int = 5, width: int = 6) -> Tensor:
    """Make random images (count, channels, height, width), uint8, without a zero."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def test_a_flip_mirrors_about_half_of_the_images_and_leaves_the_others() -> None:
    torch.manual_seed(0)
    before = images(400)
    after = random_flip(before)
    is_same = (after == before).flatten(1).all(dim=1)
    is_mirrored = (after == before.flip(3)).flatten(1).all(dim=1)
    assert (is_same ^ is_mirrored).all()
    assert 140 < is_mirrored.sum() < 260


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    torch.manual_seed(0)
    padding = 2
    before = images(200)
    after = random_crop(before, padding)
    assert after.shape == before.shape
    assert after.dtype == before.dtype
    padded = np.pad(before.numpy(), [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    height, width = before.shape[2:]
    offsets = []
    for window, source in zip(after.numpy(), padded, strict=True):
        found = [
            (row, column)
            for row in range(2 * padding + 1)
            for column in range(2 * padding + 1)
            if (source[:, row : row + height, column : column + width] == window).all()
        ]
        assert len(found) == 1
        offsets += found
    assert {row for row, _ in offsets} == {column for _, column in offsets} == set(range(2 * padding + 1))
    assert any(row != column for row, column in offsets), "rows and columns are shifted apart"


def test_a_transform_normalizes_each_channel() -> None:
    before = images()
    after = ImageTransform([0.1, 0.2, 0.3], [1.0, 2.0, 4.0])(before)
    expected = (before.numpy() / 255 - np.reshape([0.1, 0.2, 0.3], (3, 1, 1))) / np.reshape([1, 2, 4], (3, 1, 1))
    assert after.dtype == torch.float32
    np.testing.assert_allclose(after.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_what_is_cut_off_is_filled_with_black_and_not_with_the_mean() -> None:
    torch.manual_seed(0)
    white = torch.full((32, 1, 4, 4), 255, dtype=torch.uint8)
    after = ImageTransform([0.5], [0.25], crop_padding=2)(white)
    assert set(after.flatten().tolist()) == {-2.0, 2.0}


def test_augmentation_is_drawn_from_the_global_generator_and_anew_each_time() -> None:
    transform = ImageTransform([0.0] * 3, [1.0] * 3, flip=True, crop_padding=1)
    torch.manual_seed(1)
    first, second = transform(images()), transform(images())
    torch.manual_seed(1)
    assert (transform(images()) == first).all()
    assert (first != second).any()


def test_statistics_are_those_of_the_pixels_in_zero_to_one() -> None:
    pixels = images(7)
    mean, std = channel_statistics(pixels)
    values = pixels.numpy() / 255
    assert mean == pytest.approx(values.mean(axis=(0, 2, 3)))
    assert std == pytest.approx(values.std(axis=(0, 2, 3)))


def test_statistics_of_constant_images() -> None:
    mean, std = channel_statistics(torch.full((3, 1, 2, 2), 51, dtype=torch.uint8))
    assert mean == pytest.approx([0.2])
    assert std == pytest.approx([0.0], abs=1e-8)
