"""What the examples on text, tables and audio share: flags, the training loop, and a table of both methods."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mixnn_loader import MixNNDataLoader, recipes

METHODS = ("cross-entropy", "MixNN")
RECIPES = {"robust": recipes.robust, "fast": recipes.fast, "paper": recipes.paper}


@dataclass(frozen=True)
class Task:
    """What there is to learn.

    Attributes:
        train: training samples, with labels as given.
        test: test samples, with true labels.
        given: (N,) labels as given of the training samples.
        true_labels: (N,) of the training samples; only the table looks at them.
    """

    train: Dataset[Any]
    test: Dataset[Any]
    given: Tensor
    true_labels: Tensor


@dataclass
class Run:
    """One training: its loader, the test accuracy after each epoch in percent, and the time it took."""

    loader: DataLoader[Any] | MixNNDataLoader
    accuracies: list[float] = field(default_factory=list)
    seconds: float = 0.0


def compare(
    make_task: Callable[[int, argparse.Namespace], Task],
    train: Callable[[str, Task, int, argparse.Namespace], Run],
    args: argparse.Namespace,
) -> None:
    """Train with both methods for every seed, and print the table.

    Args:
        make_task: ``(seed, args) -> task``.
        train: ``(method, task, seed, args) -> run``, one training.
        args: the flags.
    """
    rows: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    for seed in args.seeds:
        task = make_task(seed, args)
        for method in METHODS:
            rows[method].append(measure(train(method, task, seed, args), task))
    print_table(rows, args)


def fit(model: nn.Module, loader: Any, criterion: nn.Module, task: Task, args: argparse.Namespace) -> Run:
    """Train with a plain loop, the same one for both methods."""
    device = torch.device(args.device)
    test_loader = DataLoader(task.test, batch_size=256, collate_fn=loader.collate_fn)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    run = Run(loader)
    start = time.perf_counter()
    for _ in tqdm(range(args.epochs), desc=type(criterion).__name__, unit="epoch", disable=None):
        model.train()
        for inputs, targets in loader:
            loss = criterion(model(moved(inputs, device)), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()

        model.eval()
        with torch.no_grad():
            right = [model(moved(inputs, device)).argmax(dim=1).cpu() == labels for inputs, labels in test_loader]
        run.accuracies.append(percentage(torch.cat(right)))
    run.seconds = time.perf_counter() - start
    return run


def measure(run: Run, task: Task) -> dict[str, float]:
    """Name and value of every row of the table."""
    metrics = {
        "test accuracy, last epoch (%)": run.accuracies[-1],
        "test accuracy, best epoch (%) *": max(run.accuracies),
        "training labels right, as given (%)": percentage(task.given == task.true_labels),
    }
    if isinstance(run.loader, MixNNDataLoader):
        corrected = run.loader.soft_targets.argmax(dim=1).cpu()
        metrics["training labels right, after correction (%)"] = percentage(corrected == task.true_labels)
    return metrics | {"wall time (s)": run.seconds}


def print_table(rows: Mapping[str, Sequence[Mapping[str, float]]], args: argparse.Namespace) -> None:
    """Print a row for each metric and a column for each method, over the seeds."""
    print(f"{args.samples} training samples, {args.epochs} epochs, seeds {' '.join(map(str, args.seeds))}")
    print(f"\n{'':44}" + "".join(f"{method:>16}" for method in METHODS))
    for name in rows["MixNN"][0]:
        cells = (summary([row[name] for row in rows[method] if name in row]) for method in METHODS)
        print(f"{name:44}" + "".join(f"{cell:>16}" for cell in cells))
    print("\n* For orientation only: which epoch is best cannot be known without clean labels.")
    if len(args.seeds) > 1:
        print("Mean ± standard deviation over the seeds.")


def summary(values: Sequence[float]) -> str:
    """Write one value as it is, several as mean ± standard deviation."""
    if not values:
        return "-"
    return f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def moved(inputs: Any, device: torch.device) -> Any:
    """Move a tensor or a dict of tensors; batches of a MixNN loader are on the device already."""
    if isinstance(inputs, Mapping):
        return {name: tensor.to(device) for name, tensor in inputs.items()}
    return inputs.to(device)


def percentage(mask: Tensor) -> float:
    """Return the share of true entries in percent."""
    return 100 * mask.double().mean().item()


def parse_arguments(
    argv: Sequence[str] | None, description: str | None, *, epochs: int, samples: int, lr: float
) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: what was typed; None: of this process.
        description: what ``--help`` begins with.
        epochs: default of the flag of that name.
        samples: the same.
        lr: the same.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag, device = parser.add_argument, "cuda" if torch.cuda.is_available() else "cpu"
    flag("--epochs", type=int, default=epochs, help="(default: %(default)s)")
    flag("--samples", type=int, default=samples, help="for training (default: %(default)s)")
    flag("--lr", type=float, default=lr, help="of AdamW (default: %(default)s)")
    flag("--recipe", choices=list(RECIPES), default="robust", help="of MixNN (default: %(default)s)")
    flag("--seeds", type=int, nargs="+", default=[0], help="of data, noise, weights and order (default: 0)")
    flag("--device", default=device, help="that trains (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.epochs < 2:
        parser.error(f"--epochs must be at least 2, one of warm-up and one after it, got {args.epochs}")
    if args.samples < 1:
        parser.error(f"--samples must be at least 1, got {args.samples}")
    return args
