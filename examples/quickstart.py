"""Quickstart: handwritten digits, 40 % of them with a wrong label, learned with cross-entropy and with MixNN.

Both start from the same weights and see the same labels in batches of the same order. They differ in two lines
of `train`; the training loop is the same. The data come with scikit-learn, nothing is downloaded:

    python -m pip install -e ".[examples]"
    python examples/quickstart.py

The table goes to standard output, a picture to quickstart.png.
"""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes
from mixnn_loader.noise import NoisyLabels, symmetric
from mixnn_loader.plots import plot_accuracy

METHODS = ("cross-entropy", "MixNN")
RECIPES = {"robust": recipes.robust, "paper": recipes.paper}


@dataclass
class Run:
    """One training: what it ended with, and what was seen on the way."""

    noise: NoisyLabels
    loader: DataLoader[Any] | MixNNDataLoader
    accuracies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)


def main() -> None:
    """Train with both methods for every seed, print the table and save the picture."""
    args = parse_arguments()
    torch.set_num_threads(1)  # a network this small has no work for two
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images / 16, labels, test_size=0.25, stratify=labels, random_state=0)
    train_images, test_images = (torch.tensor(part, dtype=torch.float32) for part in split[:2])
    train_labels, test_labels = (torch.tensor(part) for part in split[2:])
    test = test_images, test_labels

    runs: dict[str, list[Run]] = {method: [] for method in METHODS}
    for seed in args.seeds:
        noise = symmetric(train_labels, args.noise_rate, num_classes=10, seed=seed)
        for method in METHODS:
            run = train(method, train_images, noise, test, seed, args)
            run.metrics = measure(run, train_labels)
            runs[method].append(run)

    print_table(runs, args)
    print_suspects(runs["MixNN"][0], train_labels, args.seeds[0])
    save_picture(runs, args)


def train(
    method: str, images: Tensor, noise: NoisyLabels, test: tuple[Tensor, Tensor], seed: int, args: argparse.Namespace
) -> Run:
    """Train one network on noisy labels; it never sees a true one, other than to report its test accuracy."""
    start = time.perf_counter()
    torch.manual_seed(seed)  # the initial weights
    model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10))
    dataset = TensorDataset(images, noise.labels)
    order = torch.Generator().manual_seed(seed)

    loader: Any = DataLoader(dataset, batch_size=64, shuffle=True, generator=order)
    criterion: nn.Module = nn.CrossEntropyLoss()
    if method == "MixNN":  # the two lines that change
        loader = MixNNDataLoader(loader, model, **RECIPES[args.recipe](epochs=args.epochs))
        criterion = MixNNLoss()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    run = Run(noise, loader)
    for _ in tqdm(range(args.epochs), desc=f"{method}, seed {seed}", unit="epoch", disable=None):
        model.train()
        for inputs, targets in loader:
            loss = criterion(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()

        model.eval()
        with torch.no_grad():
            run.accuracies.append(share(model(test[0]).argmax(dim=1) == test[1]))
    run.seconds = time.perf_counter() - start
    return run


def measure(run: Run, true_labels: Tensor) -> dict[str, float]:
    """Name and value of every row of the table; only these use true labels."""
    metrics = {
        "test accuracy, last epoch (%)": 100 * run.accuracies[-1],
        "test accuracy, best epoch (%) *": 100 * max(run.accuracies),
        "training labels correct, as given (%)": 100 * share(run.noise.labels == true_labels),
    }
    if isinstance(run.loader, MixNNDataLoader):
        corrected = run.loader.soft_targets.argmax(dim=1)
        metrics["training labels correct, after correction (%)"] = 100 * share(corrected == true_labels)
        if run.noise.is_noisy.any():
            found = roc_auc_score(run.noise.is_noisy, suspicion(run))
            metrics["wrong labels found, AUROC (%)"] = 100 * found
    return metrics | {"wall time (s)": run.seconds}


def print_table(runs: dict[str, list[Run]], args: argparse.Namespace) -> None:
    """Print a row for each metric and a column for each method, over the seeds."""
    noise_rate = fmean(run.noise.actual_rate for run in runs["MixNN"])
    print(f"{len(runs['MixNN'][0].noise.labels)} training images, {noise_rate:.1%} of the labels wrong; ", end="")
    print(f"{args.epochs} epochs, seeds {' '.join(map(str, args.seeds))}")
    print(f"\n{'':46}" + "".join(f"{method:>16}" for method in METHODS))
    for name in runs["MixNN"][0].metrics:
        cells = (summary([run.metrics.get(name, np.nan) for run in runs[method]]) for method in METHODS)
        print(f"{name:46}" + "".join(f"{cell:>16}" for cell in cells))
    print("\n* For orientation only: which epoch is best cannot be known without clean labels.")
    if len(args.seeds) > 1:
        print("Mean ± standard deviation over the seeds.")


def suspicion(run: Run) -> Tensor:
    """Return how much each given label is doubted, in [0, 1]: what the corrected target leaves of it."""
    assert isinstance(run.loader, MixNNDataLoader)
    return 1 - run.loader.soft_targets.cpu().gather(1, run.noise.labels.unsqueeze(1)).squeeze(1)


def print_suspects(run: Run, true_labels: Tensor, seed: int, count: int = 5) -> None:
    """Print the training labels that are doubted most."""
    assert isinstance(run.loader, MixNNDataLoader)
    print(f"\nThe most suspicious training labels (seed {seed}):")
    print(f"{'index':>7}{'given':>7}{'corrected to':>14}{'true':>6}")
    corrected = run.loader.soft_targets.argmax(dim=1)
    for index in suspicion(run).argsort(descending=True)[:count].tolist():
        print(f"{index:7}{run.noise.labels[index]:7}{corrected[index]:14}{true_labels[index]:6}")


def save_picture(runs: dict[str, list[Run]], args: argparse.Namespace) -> None:
    """Draw doubt of labels and first epochs of the first seed, and the accuracies as a mean over the seeds."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    first = runs["MixNN"][0]
    doubt, is_noisy = suspicion(first), first.noise.is_noisy
    left.hist(  # few are in between: a logarithmic axis shows them
        [doubt[~is_noisy].numpy(), doubt[is_noisy].numpy()],
        bins=20,
        range=(0, 1),
        log=True,
        label=["label is right", "label is wrong"],
    )
    left.set_ylim(bottom=0.5)
    left.set(title="Which labels are wrong?", xlabel="doubt of the given label, 1 - its target", ylabel="samples")
    left.legend()
    curves = {name: np.mean([run.accuracies for run in runs[name]], axis=0).tolist() for name in METHODS}
    mixing, correction = (first_epoch(first, *phases) for phases in (("mixing", "correction"), ("correction",)))
    plot_accuracy(curves, warmup_epochs=mixing, correction_epoch=correction, ax=right)
    right.set(title="Test accuracy", ylabel="test accuracy (%)")
    figure.savefig(args.output, dpi=150)
    print(f"\nPicture: {args.output}")


def first_epoch(run: Run, *phases: str) -> int | None:
    """Return the first epoch that did one of these; None: none did."""
    history = run.loader.history if isinstance(run.loader, MixNNDataLoader) else []
    return next((record["epoch"] for record in history if record["phase"] in phases), None)


def summary(values: list[float]) -> str:
    """Write one value as it is, several as mean ± standard deviation."""
    if np.isnan(values).any():
        return "-"
    return f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def share(mask: Tensor) -> float:
    """Return the share of true entries."""
    return mask.double().mean().item()


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noise-rate", type=float, default=0.4, help="share of wrong labels (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=120, help="(default: %(default)s)")
    parser.add_argument("--recipe", choices=list(RECIPES), default="robust", help="of MixNN (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run each (default: 0)")
    parser.add_argument("--output", type=Path, default=Path("quickstart.png"), help="(default: %(default)s)")
    args = parser.parse_args()
    if not 0 <= args.noise_rate < 1:
        parser.error(f"--noise-rate must lie in [0, 1), got {args.noise_rate}")
    if args.epochs < 2:
        parser.error(f"--epochs must be at least 2, one of warm-up and one after it, got {args.epochs}")
    return args


if __name__ == "__main__":
    main()
