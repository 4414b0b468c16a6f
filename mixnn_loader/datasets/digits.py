"""Scikit-learn's handwritten digits, for trying things out in seconds."""

import torch

from mixnn_loader.datasets.in_memory import BatchTransform, InMemoryDataset
from mixnn_loader.datasets.official_files import Split, check_split


def digits(split: Split, transform: BatchTransform | None = None) -> InMemoryDataset:
    """Handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak 1998), which come with scikit-learn.

    Args:
        split: ``"train"`` (1,347 images) or ``"test"`` (450), always the same ones, with all classes in proportion.
        transform: what batches go through, see `InMemoryDataset`.

    Returns:
        Images as uint8 (N, 1, 8, 8).

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: the split is unknown.
    """
    check_split(split)
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install scikit-learn") from error

    pixels, labels = load_digits(return_X_y=True)  # from 0 to 16
    images = (
        torch.tensor(pixels * 255 / 16, dtype=torch.float64, device="cpu").round().to(torch.uint8).reshape(-1, 1, 8, 8)
    )
    parts = train_test_split(torch.arange(len(labels), device="cpu"), test_size=0.25, stratify=labels, random_state=0)
    rows = torch.as_tensor(parts[0] if split == "train" else parts[1], device="cpu")
    return InMemoryDataset(images[rows], torch.from_numpy(labels)[rows], transform)
