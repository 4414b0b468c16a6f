"""Photographs with labels from the web, read file by file; nobody knows which of their training labels are wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch.utils.data import Dataset, Subset
from torchvision import transforms

from benchmarks.harness.data.dataset import Data, required
from benchmarks.harness.recipes import Recipe
from mixnn_loader import datasets
from mixnn_loader.datasets import ImageList

RESIZED = 256
"""The shorter side of an image, before a window is cut out of it: in training anywhere, and mirrored at random; else in
the middle."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def image_files(
    train: ImageList,
    test: ImageList,
    num_classes: int,
    recipe: Recipe,
    *,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    more_tests: Mapping[str, ImageList] | None = None,
) -> Data:
    """Make a dataset of image files.

    Args:
        train: the training images with their noisy labels, without a transform.
        test: images with true labels.
        num_classes: C.
        recipe: how many images to take.
        size: of the window that the network gets.
        mean: of each channel, for pixels in [0, 1].
        std: of each channel.
        more_tests: further images with true labels.
    """
    if recipe.held_out:
        raise ValueError("held_out needs training samples with true labels, and these have none")
    ending = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    resize = transforms.Resize(RESIZED)
    plain = transforms.Compose([resize, transforms.CenterCrop(size), *ending])
    augment = transforms.Compose([resize, transforms.RandomCrop(size), transforms.RandomHorizontalFlip(), *ending])
    labels = torch.tensor(train.targets)
    augmented: Dataset[object] = train.with_transform(augment)
    scanned: Dataset[object] = train.with_transform(plain)
    if recipe.num_train is not None:
        # The lists are sorted by class: the first so many would be of one.
        drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[: recipe.num_train]
        labels = labels[drawn]
        augmented, scanned = (Subset(dataset, drawn.tolist()) for dataset in (augmented, scanned))
    return Data(
        augmented,
        scanned,
        test.with_transform(plain),
        labels,
        num_classes,
        (3, size, size),
        are_true=False,
        given=labels,
        more_tests={name: images.with_transform(plain) for name, images in (more_tests or {}).items()},
    )


def clothing1m(root: Path | None, recipe: Recipe) -> Data:
    """Clothing1M: the noisy million to train on, the verified test images to test.

    Mean and standard deviation are the data's own, as in the code of DivideMix and ELR.
    """
    root = required(root)
    return image_files(
        datasets.clothing1m(root, "noisy_train"),
        datasets.clothing1m(root, "clean_test"),
        datasets.CLOTHING1M_CLASSES,
        recipe,
        size=224,
        mean=(0.6959, 0.6537, 0.6371),
        std=(0.3113, 0.3192, 0.3214),
    )


def webvision_mini(root: Path | None, recipe: Recipe) -> Data:
    """WebVision-mini, and as a second test set the same classes' ILSVRC12 validation images, if there is ``ilsvrc12/``.

    That folder holds one folder of images a class, named by class id (``0`` to ``49``) or by synset. The size is the
    paper's.
    """
    root = required(root)
    second = {}
    if (root / "ilsvrc12").is_dir():
        second["ilsvrc12"] = datasets.ilsvrc_val(root / "ilsvrc12", synsets=root / "info" / "synsets.txt")
    return image_files(
        datasets.webvision_mini(root, "train"),
        datasets.webvision_mini(root, "val"),
        datasets.WEBVISION_MINI_CLASSES,
        recipe,
        size=227,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        more_tests=second,
    )


def food101n(root: Path | None, recipe: Recipe) -> Data:
    """Food-101N in ``Food-101N_release/`` to train on, Food-101's test images in ``food-101/`` to test.

    A second test set, ``verified``, is what was verified as right in Food-101N's validation part; it is left out of the
    training data.
    """
    root = required(root)
    train, test = datasets.food101n(root / "Food-101N_release", "train"), datasets.food101(root, "test")
    verified = datasets.food101n(root / "Food-101N_release", "verified_val")
    held_out = set(verified.paths)
    kept = [row for row, path in enumerate(train.paths) if path not in held_out]
    train = ImageList([train.paths[row] for row in kept], [train.targets[row] for row in kept])
    if _classes(test) != _classes(train):
        raise ValueError(f"Food-101N_release and food-101 in {root} must have the same classes")
    return image_files(
        train,
        test,
        datasets.FOOD101N_CLASSES,
        recipe,
        size=224,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        more_tests={"verified": verified},
    )


def _classes(images: ImageList) -> dict[str, int]:
    """Name the class ids by the images' folders."""
    return {Path(path).parent.name: label for path, label in zip(images.paths, images.targets, strict=True)}
