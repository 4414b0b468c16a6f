"""What the examples for Ignite, fastai, skorch and timm share: digits with wrong labels, and what came of them."""

import argparse
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from mixnn_loader import MixNNDataLoader
from mixnn_loader.noise import symmetric

NUM_TRAIN = 1347


class Digits(NamedTuple):
    """1,797 images of 8x8 pixels, divided.

    Attributes:
        train: images (N, 64) in [0, 1] and noisy labels.
        test: images and labels that are right.
        true_labels: (N,), of the training images.
    """

    train: TensorDataset
    test: TensorDataset
    true_labels: Tensor


def noisy_digits(seed: int) -> Digits:
    """Read them, and change labels."""
    images, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    images = images.float() / 16
    noisy = symmetric(labels[:NUM_TRAIN], 0.4, num_classes=10, seed=seed).labels
    train, test = TensorDataset(images[:NUM_TRAIN], noisy), TensorDataset(images[NUM_TRAIN:], labels[NUM_TRAIN:])
    return Digits(train, test, labels[:NUM_TRAIN])


def network() -> nn.Sequential:
    """Make a new one."""
    return nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10))


def show_result(model: nn.Module, loader: MixNNDataLoader, digits: Digits, test_images: Tensor | None = None) -> None:
    """Print the test accuracy, and how many training labels are right before and after correction.

    Args:
        model: the trained one.
        loader: what it was trained with.
        digits: which.
        test_images: those of ``digits.test`` as the model takes them; None: as they are.
    """
    images, labels = digits.test.tensors
    images = images if test_images is None else test_images
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        predictions = model(images.to(device)).argmax(dim=1).cpu()
    corrected = loader.soft_targets.argmax(dim=1).cpu()
    given, right = _percentage(digits.train.tensors[1], digits.true_labels), _percentage(corrected, digits.true_labels)
    print(f"test accuracy {_percentage(predictions, labels)}")
    print(f"labels right, as given {given}, after correction {right}")


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Make a parser of the command line that knows epochs and seed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20, help="of the whole training (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and noise (default: %(default)s)")
    return parser


def _percentage(found: Tensor, right: Tensor) -> str:
    return f"{(found == right).float().mean().item():.1%}"
