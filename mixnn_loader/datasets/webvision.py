"""WebVision-mini: noisy labels from the web, and verified ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from mixnn_loader.datasets.image_list import ImageList, StrPath, Transform, require

WEBVISION_MINI_CLASSES = 50

_WEBVISION_LAYOUT = (
    "expected WebVision 1.0 with resized images: <root>/info/train_filelist_google.txt, "
    "<root>/info/val_filelist.txt, <root>/google/..., <root>/val_images_256/..."
)


def webvision_mini(
    root: StrPath,
    split: Literal["train", "val"],
    transform: Transform | None = None,
    *,
    num_classes: int = WEBVISION_MINI_CLASSES,
) -> ImageList:
    """WebVision-mini: the Google images of the first 50 classes of WebVision 1.0 (Li et al. 2017).

    Args:
        root: folder that holds ``info/``, ``google/`` and ``val_images_256/``.
        split: ``"train"`` (noisy labels) or ``"val"`` (verified labels).
        transform: applied to each PIL image.
        num_classes: keep labels below this; 50 is the benchmark.

    Raises:
        FileNotFoundError: the list, or the first image it names, is missing.
        ValueError: the split is unknown, a line is not ``path label``, or no label is below ``num_classes``.
    """
    root = Path(root).expanduser()
    if split == "train":
        filelist, images = root / "info" / "train_filelist_google.txt", root
    elif split == "val":
        filelist, images = root / "info" / "val_filelist.txt", root / "val_images_256"
    else:
        raise ValueError(f'split must be "train" or "val", got {split!r}')

    samples = [(images / path, label) for path, label in _read_filelist(filelist) if label < num_classes]
    if not samples:
        raise ValueError(f"{filelist} has no label below num_classes={num_classes}")
    # One look catches a wrong root now, rather than in a worker; looking at every file would take minutes.
    require(samples[0][0], _WEBVISION_LAYOUT)
    paths, labels = zip(*samples, strict=True)
    return ImageList(paths, labels, transform=transform)


def _read_filelist(filelist: Path) -> Iterator[tuple[str, int]]:
    require(filelist, _WEBVISION_LAYOUT)
    with filelist.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            fields = line.rsplit(maxsplit=1)
            if len(fields) != 2 or not fields[1].isdecimal():
                raise ValueError(f'{filelist}, line {number}: expected "path label", got {line.rstrip()!r}')
            yield fields[0], int(fields[1])
