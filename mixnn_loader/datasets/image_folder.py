"""A folder a split, and in it a folder a class."""

from pathlib import Path

from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import find_classes

from mixnn_loader.datasets.image_list import StrPath, Transform, require
from mixnn_loader.datasets.in_memory import BatchTransform, InMemoryDataset, read_images
from mixnn_loader.datasets.official_files import Split, check_split

_IMAGE_FOLDER_LAYOUT = "expected <root>/train/<class>/*.jpg and <root>/test/<class>/*.jpg"


def image_folder(root: StrPath, split: Split, transform: Transform | None = None) -> ImageFolder:
    """One split of ``<root>/train/<class>/*.jpg``, ``<root>/test/<class>/*.jpg``, as torchvision's `ImageFolder`.

    Args:
        root: folder that holds both splits.
        split: ``"train"`` or ``"test"``.
        transform: applied to each PIL image.

    Raises:
        FileNotFoundError: a split is missing, or a class has no image.
        ValueError: the split is unknown, or the two splits' classes differ: their ids would not agree.
    """
    check_split(split)
    root = Path(root).expanduser()
    train, test = (set(_class_names(root / name)) for name in ("train", "test"))
    if train != test:
        raise ValueError(
            f"the splits of {root} must have the same classes; "
            f"only in train: {sorted(train - test)}, only in test: {sorted(test - train)}"
        )
    return ImageFolder(root / split, transform=transform)


def in_memory_folder(root: StrPath, split: Split, transform: BatchTransform | None = None) -> InMemoryDataset:
    """One split of an image folder, read into one tensor: for small images of one size, such as CIFAR's as JPEG files.

    Args:
        root: see `image_folder`.
        split: ``"train"`` or ``"test"``.
        transform: what batches go through, see `InMemoryDataset`.

    Returns:
        RGB images as uint8 (N, 3, H, W), class after class, and in a class by file name.

    Raises:
        FileNotFoundError: a split is missing, or a class has no image.
        ValueError: the split is unknown, the two splits' classes differ, or the images are not of one size.
    """
    return read_images(image_folder(root, split), transform)


def _class_names(directory: Path) -> list[str]:
    require(directory, _IMAGE_FOLDER_LAYOUT)
    names: list[str] = find_classes(directory)[0]
    return names
