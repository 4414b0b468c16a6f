"""A task that takes a second: four clouds of points, of which some have the label of another."""

from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.harness.metrics import probabilities_of
from benchmarks.harness.protocol import Method
from benchmarks.harness.recipes import Recipe
from benchmarks.harness.task import Task
from benchmarks.harness.training import seed_everything
from mixnn_loader.datasets.in_memory import InMemoryDataset
from mixnn_loader.noise import pairflip, symmetric

NUM_CLASSES = 4
CPU = torch.device("cpu")


class Toy(NamedTuple):
    """A task, and what the method does not know.

    Attributes:
        task: for the method.
        true: (N,) true labels.
        given: (N,) labels as given.
        test: samples with true labels.
    """

    task: Task
    true: Tensor
    given: Tensor
    test: InMemoryDataset

    @property
    def is_noisy(self) -> Tensor:
        """(N,) where the given label is wrong."""
        return self.given != self.true


def toy(
    *,
    rate: float = 0.4,
    pair: bool = False,
    epochs: int = 8,
    num_samples: int = 400,
    spread: float = 1.0,
    seed: int = 0,
    warmup_epochs: int = 2,
    lr: float = 0.1,
    batch_size: int = 40,
) -> Toy:
    """Make a task.

    Args:
        rate: nominal share of wrong labels.
        pair: wrong labels are of the next class, rather than of any.
        epochs: length of a plain training.
        num_samples: N.
        spread: standard deviation of a cloud; their centers are 4 from the middle.
        seed: of data, noise, weights and order.
        warmup_epochs: W.
        lr: learning rate at the start, which falls along a cosine.
        batch_size: samples a step.
    """
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(NUM_CLASSES, 10, generator=generator)
    centers = 4 * centers / centers.norm(dim=1, keepdim=True)

    def clouds(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(count) % NUM_CLASSES
        return centers[labels] + spread * torch.randn(count, 10, generator=generator), labels

    points, true = clouds(num_samples)
    corrupt = pairflip if pair else symmetric
    given = corrupt(true, rate, NUM_CLASSES, seed=seed).labels
    data = InMemoryDataset(points, given)
    recipe = Recipe("mlp", epochs, warmup_epochs, max(1, epochs // 2), batch_size=batch_size, lr=lr)
    task = Task(data, data, given, NUM_CLASSES, (10,), recipe, rate, seed, CPU)
    return Toy(task, true, given, InMemoryDataset(*clouds(200)))


def train(method: Method, *, first: int = 0, epochs: int | None = None) -> Method:
    """Train as the harness does, from one epoch on and up to another, by default all of them."""
    for epoch in range(first, method.num_epochs if epochs is None else epochs):
        seed_everything(method.task.seed, 1 + epoch)
        method.task.begin_epoch(epoch)
        method.train()
        method.begin_epoch(epoch)
        for batch in method.batches():
            method.step(batch)
        method.end_epoch(epoch)
    return method


def accuracy(method: Method, made: Toy) -> float:
    """Return the share of test samples that are predicted right, in [0, 1]."""
    method.eval()
    predicted = probabilities_of(method.predict, made.test, CPU).argmax(dim=1)
    return (predicted == made.test.targets).double().mean().item()


def auroc(method: Method, made: Toy) -> float:
    """Return how well the method's score tells wrong labels from right ones, 0.5 being chance."""
    from sklearn.metrics import roc_auc_score

    score = method.clean_score()
    assert score is not None
    assert score.shape == made.true.shape
    return float(roc_auc_score(made.is_noisy, -score))
