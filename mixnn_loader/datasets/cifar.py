"""CIFAR-10 and CIFAR-100: color images of 32 x 32 pixels, from the official files or from an image folder."""

from pathlib import Path

from torchvision.datasets import CIFAR10, CIFAR100

from mixnn_loader.datasets.cifar_classes import CIFAR10_CLASSES, CIFAR100_CLASSES
from mixnn_loader.datasets.image_folder import in_memory_folder
from mixnn_loader.datasets.image_list import StrPath
from mixnn_loader.datasets.in_memory import BatchTransform, InMemoryDataset
from mixnn_loader.datasets.official_files import Split, read_official


def cifar10(root: StrPath, split: Split, transform: BatchTransform | None = None) -> InMemoryDataset:
    """CIFAR-10 (Krizhevsky 2009; https://www.cs.toronto.edu/~kriz/cifar.html).

    Args:
        root: folder that holds ``cifar-10-batches-py/``, as torchvision unpacks it; or else ``train/<class>/`` and
            ``test/<class>/`` with an image file a sample.
        split: ``"train"`` (50,000 images) or ``"test"`` (10,000).
        transform: what batches go through, see `InMemoryDataset`.

    Returns:
        Images as uint8 (N, 3, 32, 32). In the order of the official files, which has nothing to do with the classes;
        those of an image folder class after class.

    Raises:
        FileNotFoundError: neither is there, a file is not as it was published, or a class has no image.
        ValueError: the split is unknown, or an image folder has not ten classes.
    """
    return _read(CIFAR10, len(CIFAR10_CLASSES), root, split, transform)


def cifar100(root: StrPath, split: Split, transform: BatchTransform | None = None) -> InMemoryDataset:
    """CIFAR-100 (Krizhevsky 2009; https://www.cs.toronto.edu/~kriz/cifar.html).

    Args:
        root: folder that holds ``cifar-100-python/``, as torchvision unpacks it; or else ``train/<class>/`` and
            ``test/<class>/`` with an image file a sample.
        split: ``"train"`` (50,000 images) or ``"test"`` (10,000).
        transform: what batches go through, see `InMemoryDataset`.

    Returns:
        Images as uint8 (N, 3, 32, 32), see `cifar10`.

    Raises:
        FileNotFoundError: neither is there, a file is not as it was published, or a class has no image.
        ValueError: the split is unknown, or an image folder has not a hundred classes.
    """
    return _read(CIFAR100, len(CIFAR100_CLASSES), root, split, transform)


def _read(
    kind: type[CIFAR10], num_classes: int, root: StrPath, split: Split, transform: BatchTransform | None
) -> InMemoryDataset:
    root = Path(root).expanduser()
    if (root / kind.base_folder).is_dir() or not (root / "train").is_dir():
        layout = (
            f"expected <root>/{kind.base_folder}/ as torchvision unpacks {kind.filename}, or else an image folder, "
            "<root>/train/<class>/ and <root>/test/<class>/"
        )
        return read_official(kind, root, split, transform, layout)
    dataset = in_memory_folder(root, split, transform)
    found = int(dataset.targets.max()) + 1
    if found != num_classes:
        raise ValueError(f"{root / split} must hold {num_classes} classes, a folder each, got {found}")
    return dataset
