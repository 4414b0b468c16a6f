"""What the command is given -> samples with labels."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from mixnn_loader._utils.csv_rows import csv_rows
from mixnn_loader.datasets.digits import digits
from mixnn_loader.datasets.in_memory import InMemoryDataset
from mixnn_loader.datasets.noise import symmetric
from mixnn_loader.report.pictures import as_array, as_rgb

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

IMAGE_ENDINGS = frozenset(IMG_EXTENSIONS)
"""What torchvision's ImageFolder takes for images: its indices are then the command's."""

MOST_NUMBERED = 1000
"""Labels that are whole numbers up to this are class indices as they are."""

LEAST_SPREAD = 1e-6
"""A feature that varies by less than this part of its size says nothing."""

DEMO_NOISE = 0.1
"""The share of labels that the demonstration makes wrong."""


class UsageError(ValueError):
    """What was given cannot be used; the message says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Images on disk.

    Attributes:
        root: the folder that names are relative to.
        names: (N,) of the files, the unreadable ones among them, so that rows are those of the folder or table.
        labels: (N,) class indices.
        class_names: of each class.
        unreadable: the rows that are left out, and why.
    """

    root: Path
    names: Sequence[str]
    labels: Sequence[int]
    class_names: Sequence[str]
    unreadable: Mapping[int, str]

    @property
    def readable(self) -> list[int]:
        """The rows of the files that can be read, ascending."""
        return [row for row in range(len(self.names)) if row not in self.unreadable]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Samples in memory.

    Attributes:
        inputs: (N, d) float32 features, or (N, C, H, W) uint8 images.
        labels: (N,) int64 class indices.
        class_names: of each class.
        true_labels: (N,), where they are known.
    """

    inputs: Tensor
    labels: Tensor
    class_names: Sequence[str]
    true_labels: Tensor | None = field(default=None, repr=False)


def read_samples(path: Path) -> ImageFiles | Rows:
    """Read a folder of images, a CSV file of paths and labels, or a file of features and labels.

    Raises:
        UsageError: it is none of these, or cannot be trained on.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    if path.is_dir():
        found: ImageFiles | Rows = _folder(path)
    elif path.suffix.lower() == ".csv":
        found = _csv(path)
    elif path.suffix.lower() in (".npz", ".pt", ".pth"):
        found = _features(path)
    else:
        raise UsageError(
            f"{path} must be a folder with a folder of images a class, a .csv file with the columns path and label, or "
            "a .npz or .pt file with features and labels"
        )
    labels = np.asarray(found.labels)
    if len(np.unique(labels[found.readable] if isinstance(found, ImageFiles) else labels)) < 2:
        raise UsageError(f"{path} has samples of one class alone: there must be two or more to tell apart")
    return found


def demo_samples() -> Rows:
    """Scikit-learn's handwritten digits, a tenth of them with a wrong label."""
    parts = [digits("train"), digits("test")]
    true = torch.cat([part.targets for part in parts])
    noise = symmetric(true, DEMO_NOISE, 10, seed=0)
    return Rows(
        inputs=torch.cat([part.inputs for part in parts]),
        labels=torch.as_tensor(noise.labels, device="cpu"),
        class_names=[str(digit) for digit in range(10)],
        true_labels=true,
    )


def _folder(root: Path) -> ImageFiles:
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    files = [_images_in(folder, deep=True) for folder in folders]
    filled = [(folder, images) for folder, images in zip(folders, files, strict=True) if images]
    is_too_high = bool(filled) and not any(_images_in(folder) for folder in folders)
    if not filled or is_too_high:
        loose = len(_images_in(root))
        if loose:
            hint = f"its {loose} images are in no class's folder; for labels from elsewhere pass a .csv file"
        elif is_too_high:
            below = filled[0][1][0].relative_to(root)
            hint = f"there are images further down, such as {below}; pass the folder above the classes'"
        else:
            hint = f"no file in it ends in {', '.join(sorted(IMAGE_ENDINGS))}"
        raise UsageError(f"{root} must have a folder of images for each class; {hint}")
    names = [file.relative_to(root).as_posix() for _, images in filled for file in images]
    labels = [label for label, (_, images) in enumerate(filled) for _ in images]
    return _readable(root, names, labels, [folder.name for folder, _ in filled])


def _images_in(folder: Path, *, deep: bool = False) -> list[Path]:
    """List the images of a folder, and of those below it, in the order of torchvision's ImageFolder."""
    places = sorted(os.walk(folder, followlinks=True)) if deep else [next(os.walk(folder))]
    return [Path(place, name) for place, _, names in places for name in sorted(names) if _is_image(name)]


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_ENDINGS


def _csv(path: Path) -> ImageFiles:
    rows = []
    try:
        for line, row in csv_rows(path, ("path", "label")):
            name, label = row["path"], row["label"]
            if not name or not label:
                raise UsageError(f"{path}, line {line}: there must be a path and a label, got {row}")
            rows.append((name, label))
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not rows:
        raise UsageError(f"{path} has no rows below its first line")
    class_names = _classes({label for _, label in rows})
    number = {name: place for place, name in enumerate(class_names)}
    return _readable(path.parent, [name for name, _ in rows], [number[label] for _, label in rows], class_names)


def _classes(labels: set[str]) -> list[str]:
    """Name the classes of labels: whole numbers are class indices, or in their order; words by the alphabet."""
    if not all(label.isascii() and label.isdigit() and str(int(label)) == label for label in labels):
        return sorted(labels)
    largest = max(map(int, labels))
    return [str(label) for label in range(largest + 1)] if largest <= MOST_NUMBERED else sorted(labels, key=int)


def _readable(root: Path, names: list[str], labels: list[int], class_names: list[str]) -> ImageFiles:
    """Find out what cannot be read as an image."""
    reasons = {row: _why_unreadable(root / name) for row, name in enumerate(names)}
    unreadable = {row: reason for row, reason in reasons.items() if reason is not None}
    if len(unreadable) == len(names):
        raise UsageError(f"none of the {len(names)} images can be read; the first: {unreadable[0]}")
    return ImageFiles(root=root, names=names, labels=labels, class_names=class_names, unreadable=unreadable)


def _why_unreadable(file: Path) -> str | None:
    from PIL import Image

    try:
        with Image.open(file) as image:
            image.draft("RGB", (1, 1))  # of a JPEG file, the least that shows whether it can be decoded
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return str(error)
    return None


def _features(path: Path) -> Rows:
    try:
        content: Any = (
            dict(np.load(path, allow_pickle=False))
            if path.suffix.lower() == ".npz"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise UsageError(
            f"{path} cannot be read as a .npz file of arrays of numbers, or a .pt file of a dict of tensors"
        ) from error
    if not isinstance(content, dict) or "features" not in content or "labels" not in content:
        keys = list(content) if isinstance(content, dict) else type(content).__name__
        raise UsageError(f"{path} must hold features (N, d) and labels (N,) under these names, got {keys}")
    features, labels = (as_array(content[name]) for name in ("features", "labels"))
    fits = features.ndim == 2 and labels.shape == features.shape[:1] and len(labels) > 0
    if not fits or labels.dtype.kind not in "iu" or features.dtype.kind not in "fiu":
        raise UsageError(
            f"{path} must hold features (N, d) and labels (N,), integers, got {features.dtype} {tuple(features.shape)} "
            f"and {labels.dtype} {tuple(labels.shape)}; numpy.unique(labels, return_inverse=True) makes labels of names"
        )
    labels = labels.astype(np.int64)
    if not 0 <= labels.min() <= labels.max() <= max(MOST_NUMBERED, len(labels)):
        raise UsageError(
            f"labels of {path} must be class indices 0..C-1, got {labels.min()} to {labels.max()}; encode them by "
            "numpy.unique(labels, return_inverse=True)"
        )
    names = content.get("class_names")
    class_names = [str(number) for number in range(int(labels.max()) + 1)] if names is None else [str(n) for n in names]
    if len(class_names) <= int(labels.max()):
        raise UsageError(f"{path} has {len(class_names)} class_names, and a label {int(labels.max())}")
    features = features.astype(np.float64)
    if not np.isfinite(features).all():
        row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise UsageError(f"features of {path} must be finite, row {row} is not; leave such rows out, or fill them in")
    # Columns of very different size would make one of them all that counts.
    means, spreads = features.mean(axis=0), features.std(axis=0)
    says_something = spreads > LEAST_SPREAD * np.maximum(np.abs(means), LEAST_SPREAD)
    scaled = np.where(says_something, (features - means) / np.where(says_something, spreads, 1), 0)
    inputs = torch.from_numpy(scaled.astype(np.float32))
    return Rows(inputs=inputs, labels=torch.from_numpy(labels), class_names=class_names)


def read_image(path: str | Path) -> "Picture":
    """Read an image upright and as RGB; more than 8 bits are brought to what 8 bits hold."""
    from PIL import Image

    with Image.open(path) as image:
        return as_rgb(image).convert("RGB")


def in_memory(files: ImageFiles, size: int) -> InMemoryDataset:
    """Read images as squares of ``size`` pixels into one tensor; unreadable ones are black."""
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    images = torch.zeros(len(files.names), 3, size, size, dtype=torch.uint8, device="cpu")
    for row in files.readable:
        image = read_image(files.root / files.names[row])
        images[row] = pil_to_tensor(image.resize((size, size), Image.Resampling.BILINEAR))
    return InMemoryDataset(images, torch.as_tensor(files.labels, device="cpu"))
