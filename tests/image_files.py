"""Image files for tests, which tell which one they are."""

from pathlib import Path
from typing import Any

from PIL import Image


def save_image(path: Path, red: int, size: tuple[int, int] = (4, 4)) -> Path:
    """Save an image (width, height) whose red channel tells which one it is; PNG keeps it exact, JPEG about."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (red, 0, 0)).save(path)
    return path


def red_of(image: Any) -> int:
    """Return the red channel of an image's first pixel."""
    pixel = image.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return int(pixel[0])


def reds_and_labels(dataset: Any) -> list[tuple[int, int]]:
    """Return the red channel and the label of each sample."""
    return [(red_of(image), label) for image, label in (dataset[i] for i in range(len(dataset)))]
