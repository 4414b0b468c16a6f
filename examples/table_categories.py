"""A table of numbers and categories, learned with cross-entropy and with MixNN; 40 % of the labels are wrong.

Numbers can be averaged, and are. Categories cannot: each of their columns has an embedding, whose output is mixed in
the training step. `mix_layer` is the list of these embeddings.

    python -m pip install -e ".[examples]"
    python examples/table_categories.py --seeds 0 1 2

The script makes the table, nothing is downloaded.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from _compare import RECIPES, Run, Task, compare, fit, parse_arguments
from sklearn.datasets import make_classification
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mixnn_loader import MixNNDataLoader, MixNNLoss
from mixnn_loader.noise import symmetric

NUM_CLASSES, NUM_NUMBERS, NUM_TEST = 4, 6, 1000
CATEGORIES = {"region": 12, "product": 8, "device": 5, "weekday": 7}
"""Columns of categories, and how many each has."""


class Table(Dataset[tuple[dict[str, Tensor], Tensor]]):
    """Rows ``({"numbers", "categories"}, label)``."""

    def __init__(self, numbers: Tensor, categories: Tensor, labels: Tensor) -> None:
        self.numbers, self.categories, self.labels = numbers, categories, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        return {"numbers": self.numbers[index], "categories": self.categories[index]}, self.labels[index]


class Classifier(nn.Module):
    """An embedding for each column of categories; a multilayer perceptron on these and on the numbers."""

    def __init__(self, width: int = 8, hidden: int = 256) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict({name: nn.Embedding(size, width) for name, size in CATEGORIES.items()})
        self.body = nn.Sequential(
            nn.Linear(NUM_NUMBERS + width * len(CATEGORIES), hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.head = nn.Linear(hidden, NUM_CLASSES)

    def forward(self, rows: dict[str, Tensor]) -> Tensor:
        """Numbers (B, 6) and categories (B, 4) -> logits (B, C)."""
        columns = rows["categories"].unbind(dim=1)
        embedded = [embedding(column) for embedding, column in zip(self.embeddings.values(), columns, strict=True)]
        logits: Tensor = self.head(self.body(torch.cat([rows["numbers"], *embedded], dim=1)))
        return logits


def make_table(seed: int, args: argparse.Namespace) -> Task:
    """Draw rows and their labels: clusters in ten dimensions, of which four are cut into categories."""
    features, labels = make_classification(
        n_samples=args.samples + NUM_TEST,
        n_features=NUM_NUMBERS + len(CATEGORIES),
        n_informative=NUM_NUMBERS + len(CATEGORIES),
        n_redundant=0,
        n_classes=NUM_CLASSES,
        n_clusters_per_class=2,
        flip_y=0,  # wrong labels come below, to the training part alone
        class_sep=2.0,
        random_state=seed,
    )
    known, unseen = slice(args.samples), slice(args.samples, None)
    numbers = StandardScaler().fit(features[known, :NUM_NUMBERS]).transform(features[:, :NUM_NUMBERS])
    rng = np.random.default_rng(seed)
    columns = []
    for values, size in zip(features[:, NUM_NUMBERS:].T, CATEGORIES.values(), strict=True):
        bins = np.digitize(values, np.quantile(values[known], np.arange(1, size) / size))
        columns.append(rng.permutation(size)[bins])  # in no order, as categories are

    numbers, categories = torch.tensor(numbers, dtype=torch.float32), torch.tensor(np.stack(columns, axis=1))
    true_labels = torch.tensor(labels)
    given = symmetric(true_labels[known], 0.4, num_classes=NUM_CLASSES, seed=seed).labels
    return Task(
        Table(numbers[known], categories[known], given),
        Table(numbers[unseen], categories[unseen], true_labels[unseen]),
        given,
        true_labels[known],
    )


def train(method: str, task: Task, seed: int, args: argparse.Namespace) -> Run:
    """Train one network; both methods have the same initial weights and the same order."""
    torch.manual_seed(seed)
    model = Classifier().to(args.device)
    order = torch.Generator().manual_seed(seed)

    loader: Any = DataLoader(task.train, batch_size=64, shuffle=True, generator=order)
    criterion: nn.Module = nn.CrossEntropyLoss()
    if method == "MixNN":  # what changes: two lines and the names of the embeddings
        embeddings = [f"embeddings.{name}" for name in CATEGORIES]
        loader = MixNNDataLoader(loader, model, mix_layer=embeddings, **RECIPES[args.recipe](epochs=args.epochs))
        criterion = MixNNLoss()
    return fit(model, loader, criterion, task, args)


def main(argv: Sequence[str] | None = None) -> None:
    """Train with both methods, and print the table."""
    compare(make_table, train, parse_arguments(argv, __doc__, epochs=40, samples=2000, lr=1e-3))


if __name__ == "__main__":
    main()
