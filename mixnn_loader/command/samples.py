"""What the command is given -> samples with labels."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixnn_loader.datasets.digits import digits
from mixnn_loader.datasets.in_memory import InMemoryDataset
from mixnn_loader.datasets.noise import symmetric

IMAGE_ENDINGS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

DEMO_NOISE = 0.1
"""The share of labels that the demonstration makes wrong."""


class UsageError(Exception):
    """What was given cannot be used; the message says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Images on disk.

    Attributes:
        root: the folder that names are relative to.
        names: (N,) of the files.
        labels: (N,) class indices.
        class_names: of each class.
        unreadable: what is left out, and why.
    """

    root: Path
    names: Sequence[str]
    labels: Sequence[int]
    class_names: Sequence[str]
    unreadable: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Samples in memory.

    Attributes:
        inputs: (N, d) float32 features, or (N, C, H, W) uint8 images.
        labels: (N,) int64 class indices.
        class_names: of each class.
        names: (N,) of the samples; None: they have none.
        true_labels: (N,), where they are known.
    """

    inputs: Tensor
    labels: Tensor
    class_names: Sequence[str]
    names: Sequence[str] | None = None
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
    counts = np.bincount(np.asarray(found.labels), minlength=len(found.class_names))
    if (counts > 0).sum() < 2:
        raise UsageError(f"{path} has samples of one class alone: there must be two or more to tell apart")
    return found


def demo_samples() -> Rows:
    """Scikit-learn's handwritten digits, a tenth of them with a wrong label."""
    parts = [digits("train"), digits("test")]
    true = torch.cat([part.targets for part in parts])
    noise = symmetric(true, DEMO_NOISE, 10, seed=0)
    return Rows(
        inputs=torch.cat([part.inputs for part in parts]),
        labels=torch.as_tensor(noise.labels),
        class_names=[str(digit) for digit in range(10)],
        true_labels=true,
    )


def _folder(root: Path) -> ImageFiles:
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    files = [_images_in(folder) for folder in folders]
    filled = [(folder, images) for folder, images in zip(folders, files, strict=True) if images]
    if not filled:
        loose = len(_images_in(root))
        below = next((path for path in sorted(root.rglob("*")) if path.suffix.lower() in IMAGE_ENDINGS), None)
        if loose:
            hint = f"its {loose} images are in no class's folder; for labels from elsewhere pass a .csv file"
        elif below is not None:
            hint = (
                f"there are images further down, such as {below.relative_to(root)}; pass the folder above the classes'"
            )
        else:
            hint = f"no file in it ends in {', '.join(sorted(IMAGE_ENDINGS))}"
        raise UsageError(f"{root} must have a folder of images for each class; {hint}")
    names = [file.relative_to(root).as_posix() for _, images in filled for file in images]
    labels = [label for label, (_, images) in enumerate(filled) for _ in images]
    return _readable(root, names, labels, [folder.name for folder, _ in filled])


def _images_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_ENDINGS and file.is_file())


def _csv(path: Path) -> ImageFiles:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if "path" not in columns or "label" not in columns:
            raise UsageError(f"{path} must have the columns path and label, its first line has {columns}")
        rows = [(row["path"], row["label"]) for row in reader]
    if not rows:
        raise UsageError(f"{path} has no rows below its first line")
    class_names = sorted({label for _, label in rows})
    number = {name: place for place, name in enumerate(class_names)}
    return _readable(path.parent, [name for name, _ in rows], [number[label] for _, label in rows], class_names)


def _readable(root: Path, names: list[str], labels: list[int], class_names: list[str]) -> ImageFiles:
    """Leave out what cannot be read as an image."""
    reasons = [_why_unreadable(root / name) for name in names]
    kept = [place for place, reason in enumerate(reasons) if reason is None]
    unreadable = [(name, reason) for name, reason in zip(names, reasons, strict=True) if reason is not None]
    if not kept:
        raise UsageError(f"none of the {len(names)} images can be read; the first: {unreadable[0][1]}")
    return ImageFiles(
        root=root,
        names=[names[place] for place in kept],
        labels=[labels[place] for place in kept],
        class_names=class_names,
        unreadable=unreadable,
    )


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
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict) or "features" not in content or "labels" not in content:
        keys = list(content) if isinstance(content, dict) else type(content).__name__
        raise UsageError(f"{path} must hold features (N, d) and labels (N,) under these names, got {keys}")
    features, labels = (torch.as_tensor(content[name]) for name in ("features", "labels"))
    if features.dim() != 2 or labels.shape != features.shape[:1] or labels.is_floating_point() or len(labels) == 0:
        raise UsageError(
            f"{path} must hold features (N, d) and labels (N,), integers, got {features.dtype} {tuple(features.shape)} "
            f"and {labels.dtype} {tuple(labels.shape)}"
        )
    if int(labels.min()) < 0:
        raise UsageError(f"labels of {path} must be >= 0, got {int(labels.min())}")
    names = content.get("class_names")
    class_names = [str(number) for number in range(int(labels.max()) + 1)] if names is None else [str(n) for n in names]
    if len(class_names) <= int(labels.max()):
        raise UsageError(f"{path} has {len(class_names)} class_names, and a label {int(labels.max())}")
    features = features.float()
    # Columns of very different size would make one of them all that counts.
    spread = features.std(dim=0).clamp_min(1e-12)
    return Rows(inputs=(features - features.mean(dim=0)) / spread, labels=labels.long(), class_names=class_names)


def in_memory(files: ImageFiles, size: int) -> InMemoryDataset:
    """Read images as squares of ``size`` pixels into one tensor."""
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    images = torch.empty(len(files.names), 3, size, size, dtype=torch.uint8, device="cpu")
    for row, name in enumerate(files.names):
        with Image.open(files.root / name) as image:
            image.draft("RGB", (size, size))
            images[row] = pil_to_tensor(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
    return InMemoryDataset(images, torch.as_tensor(files.labels))
