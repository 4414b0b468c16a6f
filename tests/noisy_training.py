"""What tests of training under label noise share."""

from functools import cache

import torch
from torch import Tensor
from toy_task import CPU, NUM_CLASSES, Toy, toy, train

from benchmarks.harness.batches import Batch
from benchmarks.harness.metrics import probabilities_of
from benchmarks.methods.cross_entropy import CrossEntropy
from benchmarks.methods.protocol import Method


def random_batch(size: int = 6) -> tuple[Tensor, Batch]:
    """Return logits (size, 4), some far from uniform, and a batch: the first samples of a task."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(size, NUM_CLASSES, generator=generator)
    labels = torch.randint(NUM_CLASSES, (size,), generator=generator)
    return logits, Batch(torch.randn(size, 10, generator=generator), labels, torch.arange(size))


def memorized(method: Method, made: Toy) -> float:
    """Return the share of wrong labels that are predicted as given, in [0, 1]."""
    method.eval()
    predicted = probabilities_of(method.predict, made.task.scan_data, CPU).argmax(dim=1)
    return (predicted == made.given)[made.is_noisy].double().mean().item()


def noisy_toy(seed: int = 0) -> Toy:
    """Make a task at which plain training memorizes most of the wrong labels."""
    return toy(rate=0.5, epochs=25, num_samples=200, seed=seed)


@cache
def memorized_by_cross_entropy() -> float:
    """Return what `memorized` is after plain training at `noisy_toy`."""
    made = noisy_toy()
    return memorized(train(CrossEntropy(made.task)), made)
