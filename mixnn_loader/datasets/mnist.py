"""MNIST and Fashion-MNIST: gray images of 28 x 28 pixels in ten classes."""

from torchvision.datasets import MNIST, FashionMNIST

from mixnn_loader.datasets.image_list import StrPath
from mixnn_loader.datasets.in_memory import BatchTransform, InMemoryDataset
from mixnn_loader.datasets.official_files import Split, read_official

_LAYOUT = (
    "expected <root>/{name}/raw/train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte, as torchvision lays them out"
)


def mnist(root: StrPath, split: Split, transform: BatchTransform | None = None) -> InMemoryDataset:
    """MNIST (LeCun, Cortes and Burges; http://yann.lecun.com/exdb/mnist): handwritten digits.

    Args:
        root: folder that holds ``MNIST/raw/``.
        split: ``"train"`` (60,000 images) or ``"test"`` (10,000).
        transform: what batches go through, see `InMemoryDataset`.

    Returns:
        Images as uint8 (N, 1, 28, 28).

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the split is unknown.
    """
    return read_official(MNIST, root, split, transform, _LAYOUT.format(name="MNIST"))


def fashion_mnist(root: StrPath, split: Split, transform: BatchTransform | None = None) -> InMemoryDataset:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf 2017; https://github.com/zalandoresearch/fashion-mnist): clothes.

    Args:
        root: folder that holds ``FashionMNIST/raw/``.
        split: ``"train"`` (60,000 images) or ``"test"`` (10,000).
        transform: what batches go through, see `InMemoryDataset`.

    Returns:
        Images as uint8 (N, 1, 28, 28).

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the split is unknown.
    """
    return read_official(FashionMNIST, root, split, transform, _LAYOUT.format(name="FashionMNIST"))
