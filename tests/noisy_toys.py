"""Toy tasks of which plain training memorizes many of the wrong labels, and what is asked of methods on them."""

from collections.abc import Callable
from functools import cache

from toy_measures import memorized
from toy_task import Toy, auroc, toy, train

from benchmarks.harness.protocol import Method, MethodFactory
from benchmarks.methods.cross_entropy import CrossEntropy


def long_toy() -> Toy:
    """Make a task that is trained on for long enough to memorize most of the wrong labels."""
    return toy(rate=0.5, epochs=25, num_samples=200)


def overlapping_toy() -> Toy:
    """Make a task of clouds that overlap, trained on for long enough to memorize half of the wrong labels."""
    return toy(rate=0.5, epochs=8, spread=1.5, lr=0.05, seed=1)


def trained(factory: MethodFactory) -> tuple[Toy, Method]:
    """Make a task of clouds that overlap, and train a method on it."""
    made = overlapping_toy()
    return made, train(factory(made.task)).eval()


@cache
def memorized_by_cross_entropy(make: Callable[[], Toy]) -> float:
    """Return what `memorized` is after plain training at a task, trained once for all tests."""
    made = make()
    return memorized(train(CrossEntropy(made.task)), made)


def assert_mends(method: Method, made: Toy) -> None:
    """Check that a method finds wrong labels and mends many of them."""
    assert auroc(method, made) > 0.9
    corrected = method.corrected_labels()
    assert corrected is not None
    assert (corrected == made.true).double().mean() > 0.8 > 0.65 > (made.given == made.true).double().mean()


def assert_memorizes_less(method: Method, made: Toy) -> None:
    """Check that a method memorizes less than half of what plain training does at `overlapping_toy`."""
    assert memorized(method, made) < 0.5 * memorized_by_cross_entropy(overlapping_toy)
