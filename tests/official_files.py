"""Small copies of official files, in their own formats."""

import hashlib
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from torchvision.datasets import CIFAR10

Images = npt.NDArray[np.uint8]


def write_mnist(raw: Path, images: Images, labels: Sequence[int], prefix: str) -> None:
    """Write images (N, 28, 28) and labels in the format of MNIST."""
    raw.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">4I", 0x0803, *images.shape)
    (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    header = struct.pack(">2I", 0x0801, len(labels))
    (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(header + bytes(labels))


def write_cifar(
    monkeypatch: pytest.MonkeyPatch, kind: type[CIFAR10], root: Path, train: Sequence[int], test: Sequence[int]
) -> dict[str, Images]:
    """Write images with these labels in the format of CIFAR, and have torchvision take their checksums for right.

    Returns:
        ``train`` and ``test`` images (N, 3, 32, 32).
    """
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    key = "labels" if kind is CIFAR10 else "fine_labels"
    images: dict[str, list[Images]] = {"train": [], "test": []}
    for split, labels, entries in (("train", train, kind.train_list), ("test", test, kind.test_list)):
        written = []
        for (name, _), part in zip(entries, np.array_split(np.array(labels), len(entries)), strict=True):
            pixels = rng.integers(256, size=(len(part), 3 * 32 * 32), dtype=np.uint8)
            images[split].append(pixels.reshape(-1, 3, 32, 32))
            written.append([name, _write(folder / name, {"data": pixels, key: part.tolist()})])
        monkeypatch.setattr(kind, f"{split}_list", written)
    names = [str(label) for label in range(10 if kind is CIFAR10 else 100)]
    checksum = _write(folder / kind.meta["filename"], {kind.meta["key"]: names})
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": checksum})
    return {split: np.concatenate(parts) for split, parts in images.items()}


def _write(path: Path, entry: object) -> str:
    content = pickle.dumps(entry)
    path.write_bytes(content)
    return hashlib.md5(content).hexdigest()
