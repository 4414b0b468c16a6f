"""Measurements of a method on a toy task that several tests of methods share."""

from torch import Tensor
from toy_task import CPU, Toy

from benchmarks.harness.batches import Batch, IndexedSamples, as_batch
from benchmarks.harness.metrics import probabilities_of
from benchmarks.methods.protocol import Method


def memorized(method: Method, made: Toy) -> float:
    """Return the share of mislabeled samples that are predicted as labeled, in [0, 1]."""
    method.eval()
    predicted = probabilities_of(method.predict, made.task.scan_data, CPU).argmax(dim=1)
    return (predicted == made.given)[made.is_noisy].double().mean().item()


def share_of_noise(made: Toy, chosen: Tensor) -> float:
    """Return the share of wrong labels among chosen samples, a mask (N,) or indices, in [0, 1]."""
    return made.is_noisy[chosen].double().mean().item()


def whole_batch(made: Toy) -> Batch:
    """Return all samples in one batch, in the order of their indices."""
    return as_batch(IndexedSamples(made.task.train).__getitems__(range(len(made.given))))
