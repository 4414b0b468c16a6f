"""CIFAR-10N and CIFAR-100N: labels that people gave to CIFAR's training images.

Wei, Zhu, Cheng, Liu, Niu and Liu, "Learning with noisy labels revisited: a study using real-world human annotations",
ICLR 2022; http://www.noisylabels.com. The files are licensed CC BY-NC 4.0.

CIFAR-10N has three labels an image, ``random1`` to ``random3`` (17.2, 18.1 and 17.6 % wrong), their majority ``aggre``
(9.0 %), and ``worse`` (40.2 %), a wrong one of the three where there is one. CIFAR-100N has one, ``noisy`` (40.2 %).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixnn_loader._utils.checks import check_choice
from mixnn_loader.datasets.cifar import cifar10, cifar100
from mixnn_loader.datasets.image_list import StrPath, require
from mixnn_loader.datasets.in_memory import BatchTransform, InMemoryDataset

CIFAR10N_LABEL_SETS = ("aggre", "worse", "random1", "random2", "random3")
CIFAR100N_LABEL_SETS = ("noisy",)

_KEYS = {
    "aggre": "aggre_label",
    "worse": "worse_label",
    "random1": "random_label1",
    "random2": "random_label2",
    "random3": "random_label3",
    "noisy": "noisy_label",
}
"""Label set -> its name in the file."""

_LAYOUT = (
    "expected the file of human labels as published at noisylabels.com, <root>/CIFAR-10_human.pt or "
    "<root>/CIFAR-100_human.pt, beside the images"
)


def cifar10n(root: StrPath, label_set: str = "worse", transform: BatchTransform | None = None) -> InMemoryDataset:
    """CIFAR-10's training images with human labels; its test images are those of `cifar10`, and so are true labels.

    Args:
        root: folder that holds ``CIFAR-10_human.pt``, and the images as `cifar10` reads them.
        label_set: ``"aggre"``, ``"worse"``, ``"random1"``, ``"random2"`` or ``"random3"``.
        transform: what batches go through, see `InMemoryDataset`.

    Returns:
        Images as uint8 (50000, 3, 32, 32).

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: there is no such label set, or the file is in another order than the images.
    """
    check_choice("label_set", label_set, CIFAR10N_LABEL_SETS)
    images = cifar10(root, "train", transform)
    return images.with_targets(human_labels(Path(root) / "CIFAR-10_human.pt", label_set, images.targets))


def cifar100n(root: StrPath, label_set: str = "noisy", transform: BatchTransform | None = None) -> InMemoryDataset:
    """CIFAR-100's training images with human labels; its test images are those of `cifar100`, and so are true labels.

    Args:
        root: folder that holds ``CIFAR-100_human.pt``, and the images as `cifar100` reads them.
        label_set: ``"noisy"``; there is one.
        transform: what batches go through, see `InMemoryDataset`.

    Returns:
        Images as uint8 (50000, 3, 32, 32).

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: there is no such label set, or the file is in another order than the images.
    """
    check_choice("label_set", label_set, CIFAR100N_LABEL_SETS)
    images = cifar100(root, "train", transform)
    return images.with_targets(human_labels(Path(root) / "CIFAR-100_human.pt", label_set, images.targets))


def human_labels(file: StrPath, label_set: str, true_labels: Tensor, *, by_rank: bool = False) -> Tensor:
    """Read one set of human labels.

    Args:
        file: ``CIFAR-10_human.pt`` or ``CIFAR-100_human.pt``.
        label_set: see the module's docstring.
        true_labels: (N,) int64, the true labels of the images that the human ones are for, in their order.
        by_rank: the k-th label of a class is for the k-th image of that class. For an image folder whose files keep the
            official order within each class, which nothing here can find out.

    Returns:
        (N,) int64.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is another file, has no such label set, or is in another order than the images.
    """
    file = Path(file).expanduser()
    require(file, _LAYOUT)
    labels = _load(file)
    found = [name for name, key in _KEYS.items() if key in labels]
    if "clean_label" not in labels or label_set not in found:
        raise ValueError(f"{file} has no label set {label_set!r} with clean_label; it has {', '.join(found) or 'none'}")
    clean, chosen = (
        torch.as_tensor(labels[key], device="cpu").reshape(-1).long() for key in ("clean_label", _KEYS[label_set])
    )
    if not len(clean) == len(chosen) == len(true_labels):
        raise ValueError(
            f"{file} has {len(clean)} clean and {len(chosen)} {label_set} labels for {len(true_labels)} images"
        )
    if by_rank:
        ranked, rank = clean.argsort(stable=True), true_labels.argsort(stable=True).argsort()
        clean, chosen = clean[ranked][rank], chosen[ranked][rank]
    differs = clean != true_labels
    if differs.any():
        raise ValueError(
            f"{file} is in another order than the images: clean_label is not the true label of {int(differs.sum())} of "
            f"{len(clean)} images, the first of them at index {int(differs.int().argmax())}. It goes with the official "
            "CIFAR files, as torchvision reads them, and not with an image folder"
        )
    return chosen


def _load(file: Path) -> dict[str, Any]:
    """Read a dict of arrays; nothing but arrays is let in."""
    rebuild: Any = np.zeros(0).__reduce__()[0]
    # NumPy has renamed the module of this function; the published files have the old name.
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        *((rebuild, f"numpy.{package}.multiarray._reconstruct") for package in ("core", "_core")),
        *(
            (type(np.dtype(kind)), f"numpy.dtypes.{type(np.dtype(kind)).__name__}")
            for kind in ("int64", "int32", "uint8")
        ),
        (np.ndarray, "numpy.ndarray"),
        (np.dtype, "numpy.dtype"),
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            labels = torch.load(file, map_location="cpu", weights_only=True)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # one that is cut off, or another file, fails in as many ways
        raise ValueError(f"{file} is not as it was published; {_LAYOUT}") from error
    if not isinstance(labels, dict):
        raise ValueError(f"{file} holds a {type(labels).__name__}; {_LAYOUT}")
    return labels
