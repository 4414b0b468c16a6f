"""Kinds of label noise by name."""

from torch import Tensor

from mixnn_loader.noise import NoisyLabels, asymmetric, pairflip, symmetric

NOISES = ("symmetric", "symmetric-inclusive", "asymmetric", "pair")


def corrupt(labels: Tensor, noise: str, rate: float, num_classes: int, seed: int) -> NoisyLabels:
    """Corrupt true labels (N,).

    Args:
        labels: true class indices.
        noise: ``"symmetric"``, to one of the other classes; ``"symmetric-inclusive"``, to any class; ``"asymmetric"``,
            to a similar class (CIFAR-10 and CIFAR-100); ``"pair"``, to the next class.
        rate: nominal share of labels to be redrawn.
        num_classes: C.
        seed: same seed, same noise.

    Raises:
        ValueError: the kind is unknown, or has no meaning for this number of classes.
    """
    if noise in ("symmetric", "symmetric-inclusive"):
        return symmetric(labels, rate, num_classes, inclusive=noise == "symmetric-inclusive", seed=seed)
    if noise == "pair":
        return pairflip(labels, rate, num_classes, seed=seed)
    if noise == "asymmetric":
        if num_classes not in (10, 100):
            raise ValueError(f"asymmetric noise is that of CIFAR-10 and CIFAR-100, not of {num_classes} classes")
        return asymmetric(labels, rate, dataset="cifar10" if num_classes == 10 else "cifar100", seed=seed)
    raise ValueError(f"noise must be one of {', '.join(NOISES)}, got {noise!r}")


def expected_rate(labels: Tensor, noisy: NoisyLabels) -> float:
    """Return the share of labels (N,) that this kind of noise makes wrong on average, which methods are told.

    That is not the nominal rate where a label may be redrawn as it was, or where some classes keep theirs.
    """
    return round(1 - float(noisy.matrix.diagonal()[labels].mean()), 6)
