"""The datasets of the benchmarks by name: training samples, test samples, and true labels where they are known."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.harness.recipes import Recipe
from mixnn_loader.datasets.augment import ImageTransform, channel_statistics
from mixnn_loader.datasets.in_memory import InMemoryDataset, images_of


@dataclass(frozen=True)
class Data:
    """A dataset, ready to be trained on.

    Attributes:
        train: (inputs, label) with the augmentation of training.
        scan: the same samples in the same order without augmentation.
        test: samples to measure accuracy on, with true labels.
        labels: (N,) int64, labels of the training samples: true ones, if `are_true`.
        num_classes: C.
        shape: of an input.
        are_true: whether `labels` are the true ones, so that noise can be added and known.
        given: (N,) int64, noisy labels that come with the data, as from human annotators; None: none.
    """

    train: Dataset[Any]
    scan: Dataset[Any]
    test: Dataset[Any]
    labels: Tensor
    num_classes: int
    shape: tuple[int, ...]
    are_true: bool = True
    given: Tensor | None = None


Loader = Callable[[Path | None, Recipe], Data]
"""``(folder that holds the data, recipe) -> dataset``."""


def image_tensors(
    train_images: Tensor,
    train_labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    num_classes: int,
    recipe: Recipe,
) -> Data:
    """Make a dataset of uint8 images (N, C, H, W) that are kept in memory, normalized by their own statistics."""
    train_images, train_labels = train_images[: recipe.num_train], train_labels[: recipe.num_train]
    mean, std = channel_statistics(train_images)
    train = ImageTransform(mean, std, flip=recipe.flip, crop_padding=recipe.crop_padding)
    plain = ImageTransform(mean, std)
    return Data(
        InMemoryDataset(train_images, train_labels, train),
        InMemoryDataset(train_images, train_labels, plain),
        InMemoryDataset(test_images, test_labels, plain),
        train_labels,
        num_classes,
        tuple(train_images.shape[1:]),
    )


def digits(root: Path | None, recipe: Recipe) -> Data:
    """Scikit-learn's handwritten digits, 8 x 8: 1,347 to train on and 450 to test; they come with the package."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    del root
    images, labels = load_digits(return_X_y=True)
    scaled = torch.tensor(images * 255 / 16).round().to(torch.uint8).reshape(-1, 1, 8, 8)
    rows = torch.arange(len(labels))
    train, test = (
        torch.as_tensor(part) for part in train_test_split(rows, test_size=0.25, stratify=labels, random_state=0)
    )
    targets = torch.as_tensor(labels, dtype=torch.int64)
    return image_tensors(scaled[train], targets[train], scaled[test], targets[test], 10, recipe)


def torchvision_images(kind: str, num_classes: int) -> Loader:
    """Return the loader of one of torchvision's datasets of small images, from its official files on disk."""

    def load(root: Path | None, recipe: Recipe) -> Data:
        from torchvision import datasets

        train, test = (
            getattr(datasets, kind)(required(root), train=is_train, download=False) for is_train in (True, False)
        )
        labels, test_labels = (torch.as_tensor(part.targets, dtype=torch.int64) for part in (train, test))
        return image_tensors(images_of(train), labels, images_of(test), test_labels, num_classes, recipe)

    return load


def features(root: Path | None, recipe: Recipe) -> Data:
    """Representations of a frozen backbone, from a file that `torch.load` reads.

    A dict of ``train`` (N, d) and ``test`` (M, d) floating-point, ``labels`` (N,) and ``test_labels`` (M,) true class
    indices and, if there are any, ``given`` (N,) noisy labels that come with the data.
    """
    parts = torch.load(required(root), weights_only=True)
    if missing := sorted({"train", "test", "labels", "test_labels"} - set(parts)):
        raise ValueError(
            f"{root} must hold a dict with train, labels, test and test_labels; it has no {', '.join(missing)}"
        )
    train, labels = parts["train"].float()[: recipe.num_train], parts["labels"].long()[: recipe.num_train]
    samples = InMemoryDataset(train, labels)
    given = parts.get("given")
    return Data(
        samples,
        samples,
        InMemoryDataset(parts["test"].float(), parts["test_labels"]),
        labels,
        1 + max(int(parts[name].max()) for name in ("labels", "test_labels")),  # also where num_train leaves some out
        tuple(train.shape[1:]),
        given=None if given is None else given.long()[: recipe.num_train],
    )


def required(root: Path | None) -> Path:
    """Return the folder or file of the data.

    Raises:
        ValueError: none was given.
    """
    if root is None:
        raise ValueError("pass --data-dir, the folder that holds the dataset (for features: the file)")
    return root


DATASETS: dict[str, Loader] = {
    "digits": digits,
    "mnist": torchvision_images("MNIST", 10),
    "fashion-mnist": torchvision_images("FashionMNIST", 10),
    "cifar10": torchvision_images("CIFAR10", 10),
    "cifar100": torchvision_images("CIFAR100", 100),
    "features": features,
}


WITHOUT_FILES = ("digits",)
"""Those that come with a package, and need no folder."""


def load(name: str, root: Path | None, recipe: Recipe) -> Data:
    """Load a dataset by its name; ``paper-`` before it says how to train on it, and changes nothing here."""
    return DATASETS[name.removeprefix("paper-")](root, recipe)
