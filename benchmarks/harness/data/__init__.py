"""The datasets of the benchmarks by name: training samples, test samples, and true labels where they are known."""

from pathlib import Path

from benchmarks.harness.data.dataset import Data, Loader, required
from benchmarks.harness.data.features import features
from benchmarks.harness.data.photographs import clothing1m, food101n, webvision_mini
from benchmarks.harness.data.small_images import animal10n, digits, official, with_human_labels
from benchmarks.harness.recipes import Recipe
from mixnn_loader import datasets

__all__ = ["DATASETS", "WITHOUT_FILES", "Data", "Loader", "load", "required"]

DATASETS: dict[str, Loader] = {
    "digits": digits,
    "mnist": official(datasets.mnist, 10),
    "fashion-mnist": official(datasets.fashion_mnist, 10),
    "cifar10": official(datasets.cifar10, 10),
    "cifar100": official(datasets.cifar100, 100),
    "cifar10n": with_human_labels(datasets.cifar10, 10, "CIFAR-10_human.pt", "worse"),
    "cifar100n": with_human_labels(datasets.cifar100, 100, "CIFAR-100_human.pt", "noisy"),
    "clothing1m": clothing1m,
    "webvision-mini": webvision_mini,
    "animal10n": animal10n,
    "food101n": food101n,
    "features": features,
}

WITHOUT_FILES = ("digits",)
"""Those that come with a package, and need no folder."""


def load(name: str, root: Path | None, recipe: Recipe) -> Data:
    """Load a dataset by its name; ``paper-`` before it says how to train on it, and changes nothing here."""
    return DATASETS[name.removeprefix("paper-")](root, recipe)
