"""A toy task of which plain training memorizes half of the wrong labels, and what is asked of methods on it."""

from toy_measures import memorized
from toy_task import Toy, toy, train

from benchmarks.methods.cross_entropy import CrossEntropy
from benchmarks.methods.protocol import Method, MethodFactory


def noisy_toy(seed: int = 1) -> Toy:
    """Make the task: half of the labels are drawn anew, and the clouds overlap."""
    return toy(rate=0.5, epochs=8, spread=1.5, lr=0.05, seed=seed)


def trained(factory: MethodFactory, seed: int = 1) -> tuple[Toy, Method]:
    """Make the task and train a method on it."""
    made = noisy_toy(seed)
    return made, train(factory(made.task)).eval()


def memorized_by_plain_training(seed: int = 1) -> float:
    """Return the same of cross-entropy."""
    made, method = trained(CrossEntropy, seed)
    return memorized(method, made)
