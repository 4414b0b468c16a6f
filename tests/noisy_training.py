"""The toy task in a training that is long enough for plain training to memorize most of the wrong labels."""

from functools import cache

from toy_measures import memorized
from toy_task import Toy, toy, train

from benchmarks.methods.cross_entropy import CrossEntropy


def noisy_toy(seed: int = 0) -> Toy:
    """Make a task at which plain training memorizes most of the wrong labels."""
    return toy(rate=0.5, epochs=25, num_samples=200, seed=seed)


@cache
def memorized_by_cross_entropy() -> float:
    """Return what `memorized` is after plain training at `noisy_toy`."""
    made = noisy_toy()
    return memorized(train(CrossEntropy(made.task)), made)
