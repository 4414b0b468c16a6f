"""Small images, kept in memory and augmented by whole batches: noise is added to them, or comes with them."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from benchmarks.harness.data.dataset import Data, Loader, required, split_rows
from benchmarks.harness.recipes import Recipe
from mixnn_loader import datasets
from mixnn_loader.datasets import ImageTransform, InMemoryDataset, channel_statistics, human_labels


def image_tensors(
    train: InMemoryDataset,
    test: InMemoryDataset,
    num_classes: int,
    recipe: Recipe,
    given: Tensor | None = None,
    *,
    are_true: bool = True,
) -> Data:
    """Make a dataset of uint8 images (N, C, H, W), normalized by the statistics of those that are trained on.

    Args:
        train: the training images with their labels, without a transform.
        test: images to measure accuracy on.
        num_classes: C.
        recipe: how to augment, and how many images to take.
        given: (N,) noisy labels that come with the training images.
        are_true: whether the labels of the training images are the true ones.
    """
    images, labels = train.inputs, train.targets
    if recipe.held_out and not are_true:
        raise ValueError("held_out needs training samples with true labels, and these have none")
    if recipe.num_train is not None or recipe.held_out:
        rows, held_out = split_rows(labels, recipe)
        if recipe.held_out:
            test = InMemoryDataset(images[held_out], labels[held_out])
        images, labels, given = images[rows], labels[rows], None if given is None else given[rows]
    mean, std = channel_statistics(images)
    augment = ImageTransform(mean, std, flip=recipe.flip, crop_padding=recipe.crop_padding)
    plain = ImageTransform(mean, std)
    return Data(
        InMemoryDataset(images, labels, augment),
        InMemoryDataset(images, labels, plain),
        test.with_transform(plain),
        labels,
        num_classes,
        tuple(images.shape[1:]),
        are_true,
        given,
    )


def digits(root: Path | None, recipe: Recipe) -> Data:
    """Scikit-learn's handwritten digits, 8 x 8: 1,347 to train on and 450 to test; they come with the package."""
    del root
    return image_tensors(datasets.digits("train"), datasets.digits("test"), 10, recipe)


def official(read: Callable[..., InMemoryDataset], num_classes: int) -> Loader:
    """Return the loader of a dataset that one function reads, such as `mixnn_loader.datasets.mnist`."""

    def load(root: Path | None, recipe: Recipe) -> Data:
        train, test = (read(required(root), split) for split in ("train", "test"))
        return image_tensors(train, test, num_classes, recipe)

    return load


def with_human_labels(
    read: Callable[..., InMemoryDataset], num_classes: int, file: str, default_label_set: str
) -> Loader:
    """Return the loader of a dataset whose human labels are in a file beside it; `Recipe.label_set` chooses."""

    def load(root: Path | None, recipe: Recipe) -> Data:
        train, test = (read(required(root), split) for split in ("train", "test"))
        given = human_labels(required(root) / file, recipe.label_set or default_label_set, train.targets)
        return image_tensors(train, test, num_classes, recipe, given)

    return load


def animal10n(root: Path | None, recipe: Recipe) -> Data:
    """ANIMAL-10N, 64 x 64; nobody knows which of its training labels are wrong."""
    train, test = (datasets.read_images(datasets.animal10n(required(root), split)) for split in ("train", "test"))
    return image_tensors(train, test, datasets.ANIMAL10N_CLASSES, recipe, train.targets, are_true=False)
