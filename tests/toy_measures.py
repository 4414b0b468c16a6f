"""What several tests of methods measure and check on a toy task."""

import io
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor
from toy_task import CPU, NUM_CLASSES, Toy, accuracy, toy, train

from benchmarks.harness.batches import Batch, IndexedSamples, as_batch
from benchmarks.harness.metrics import probabilities_of
from benchmarks.harness.protocol import Method
from benchmarks.methods.cross_entropy import CrossEntropy


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


def random_batch(size: int = 6) -> tuple[Tensor, Batch]:
    """Return logits (size, 4), some far from uniform, and a batch: the first samples of a task."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(size, NUM_CLASSES, generator=generator)
    labels = torch.randint(NUM_CLASSES, (size,), generator=generator)
    return logits, Batch(torch.randn(size, 10, generator=generator), labels, torch.arange(size))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities (B, C) of logits, by NumPy."""
    raised: np.ndarray = np.exp(logits)
    probabilities: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
    return probabilities


@cache
def plain_accuracy(rate: float, epochs: int) -> float:
    """Return the accuracy of plain training on a toy, trained once for all tests."""
    made = toy(rate=rate, epochs=epochs)
    return accuracy(train(CrossEntropy(made.task)), made)


def assert_goes_on(make: Callable[[], Method], stop: int | None = None) -> Method:
    """Check that a run that is stopped after so many epochs, by default half of them, ends as one that is not.

    Returns:
        What was not stopped.
    """
    whole = train(make())
    stop = whole.num_epochs // 2 if stop is None else stop
    stopped, resumed = train(make(), epochs=stop), make()
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    train(resumed, first=stop)
    found = resumed.state_dict()
    for name, expected in whole.state_dict().items():
        if isinstance(expected, torch.Tensor):
            torch.testing.assert_close(found[name], expected, rtol=0, atol=0, equal_nan=True)
    return whole
