"""Digits, MNIST, Fashion-MNIST and CIFAR, on small copies of their files."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import save_image
from official_files import write_cifar, write_mnist
from torchvision.datasets import CIFAR10, CIFAR100

from mixnn_loader.datasets import InMemoryDataset, cifar10, cifar100, digits, fashion_mnist, mnist

Loader = Callable[..., InMemoryDataset]


@pytest.mark.parametrize(("load", "folder"), [(mnist, "MNIST"), (fashion_mnist, "FashionMNIST")])
def test_mnist_reads_the_official_files(load: Loader, folder: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(256, size=(5, 28, 28), dtype=np.uint8)
    write_mnist(tmp_path / folder / "raw", images[:3], [7, 0, 9], "train")
    write_mnist(tmp_path / folder / "raw", images[3:], [1, 2], "t10k")
    train, test = load(tmp_path, "train"), load(str(tmp_path), "test", lambda batch: batch.float().sum(dim=(1, 2, 3)))
    assert train.inputs.dtype == torch.uint8
    assert (train.inputs[:, 0].numpy() == images[:3]).all()
    assert train.targets.tolist() == [7, 0, 9]
    assert test[1] == (images[4].astype(int).sum(), 2)


@pytest.mark.parametrize(("load", "folder"), [(mnist, "MNIST"), (fashion_mnist, "FashionMNIST")])
def test_mnist_without_its_files_names_the_layout(load: Loader, folder: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"expected <root>/{folder}/raw/train-images-idx3-ubyte"):
        load(tmp_path, "train")


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x08\x03\x00\x00\x00\x05", b"<html>not found</html>"])
def test_mnist_with_a_damaged_file(content: bytes, tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST/raw", np.zeros((5, 28, 28), dtype=np.uint8), [7, 0, 9, 1, 2], "train")
    (tmp_path / "MNIST/raw/train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(FileNotFoundError, match=r"as they were published; expected <root>/MNIST/raw/train-images"):
        mnist(tmp_path, "train")


@pytest.mark.parametrize(("load", "kind", "count"), [(cifar10, CIFAR10, 10), (cifar100, CIFAR100, 100)])
def test_cifar_reads_the_official_files(
    load: Loader, kind: Any, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [3, count - 1, 0, 2, 1, 5]
    images = write_cifar(monkeypatch, kind, tmp_path, labels, [4, count - 2])
    train, test = load(tmp_path, "train"), load(tmp_path, "test")
    assert (train.inputs.numpy() == images["train"]).all()
    assert train.targets.tolist() == labels
    assert (test.inputs.numpy() == images["test"]).all()
    assert test.targets.tolist() == [4, count - 2]


@pytest.mark.parametrize(("load", "count"), [(cifar10, 10), (cifar100, 100)])
def test_cifar_reads_an_image_folder(load: Loader, count: int, tmp_path: Path) -> None:
    for split, first in (("train", 0), ("test", 100)):
        for label in range(count):
            save_image(tmp_path / split / f"class{label:02}" / "0001.png", red=first + label)
    assert load(tmp_path, "train").inputs[:, 0, 0, 0].tolist() == list(range(count))
    assert load(tmp_path, "test").targets.tolist() == list(range(count))


def test_cifar_prefers_the_official_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(monkeypatch, CIFAR10, tmp_path, [1, 2, 3, 4, 5], [0])
    save_image(tmp_path / "train" / "cat" / "0.png", red=0)
    assert cifar10(tmp_path, "train").targets.tolist() == [1, 2, 3, 4, 5]


def test_cifar_of_an_image_folder_with_other_classes(tmp_path: Path) -> None:
    for split in ("train", "test"):
        save_image(tmp_path / split / "cat" / "0.png", red=0)
    with pytest.raises(ValueError, match="must hold 10 classes, a folder each, got 1"):
        cifar10(tmp_path, "train")


def test_cifar_without_its_files_names_both_layouts(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"<root>/cifar-10-batches-py/ as .* <root>/train/<class>/"):
        cifar10(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="<root>/cifar-100-python/"):
        cifar100(tmp_path, "test")


def test_cifar_with_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(monkeypatch, CIFAR10, tmp_path, [1, 2, 3, 4, 5], [0])
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"half of it")
    with pytest.raises(FileNotFoundError, match="as they were published"):
        cifar10(tmp_path, "train")


@pytest.mark.parametrize("load", [mnist, fashion_mnist, cifar10, cifar100])
def test_unknown_split(load: Loader, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"split must be .* got 'val'"):
        load(tmp_path, "val")


def test_digits_are_always_the_same_and_in_proportion() -> None:
    train, test = digits("train"), digits("test")
    assert train.inputs.shape == (1347, 1, 8, 8)
    assert test.inputs.shape == (450, 1, 8, 8)
    assert train.inputs.dtype == torch.uint8
    assert train.inputs.max() == 255
    together = {image.numpy().tobytes() for image in torch.cat([train.inputs, test.inputs])}
    assert len(together) == 1797, "all images differ, so none is in both"
    shares = train.targets.bincount() / (train.targets.bincount() + test.targets.bincount())
    assert ((shares - 0.75).abs() < 0.01).all()
    assert (digits("train").inputs == train.inputs).all()


def test_digits_of_an_unknown_split_and_without_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    split: Any = "val"
    with pytest.raises(ValueError, match="got 'val'"):
        digits(split)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        digits("train")
