"""Does the label report find the wrong labels, and are its promises right? Beside it, cleanlab's.

One training by `recipes.robust`, of features by `recipes.features`, and its `label_report()`, on labels that were made
wrong. Beside it what cleanlab makes of the probabilities that it asks for, those of networks that were not trained on
the sample: five trainings with cross-entropy, each on four fifths of the data. And what it makes of the probabilities
of the one training. All with the harness's network, recipe, noise and seeds.

A line of the results file is a dataset, a kind of noise, a rate and a seed. Of each way: AUROC and average precision of
its ranking; precision, recall and F1 of what it flags; how many of the first hundred are wrong; the share of wrong
labels that it comes to. And of the report: what it promises of its issues, and what is true, in percent.

    python -m benchmarks.label_issues --dataset digits --seeds 0 1 2 --output labels.jsonl
    python -m benchmarks.label_issues --dataset mnist --data-dir DIR --output labels.jsonl
    python -m benchmarks.label_issues --table labels.jsonl
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from benchmarks.harness.data import Data, load
from benchmarks.harness.data.relabeled import Relabeled
from benchmarks.harness.flags import at_least, device, fraction
from benchmarks.harness.machine import describe_machine
from benchmarks.harness.protocol import Method
from benchmarks.harness.recipes import recipe_for
from benchmarks.harness.settings import RunSettings
from benchmarks.harness.task import Task
from benchmarks.harness.training import given_labels, seed_everything
from benchmarks.methods import all_methods
from benchmarks.methods.mixnn import MixNN
from mixnn_loader import LabelReport

NUM_FOLDS = 5
RATES = (0.0, 0.05, 0.1, 0.2, 0.4)
CELLS = [*(("symmetric", rate) for rate in RATES), ("pair", 0.2)]
"""Kinds and rates of noise."""

COLUMNS = (
    "average_precision",
    "auroc",
    "f1",
    "precision",
    "recall",
    "first_hundred",
    "flagged",
    "promised",
    "promised_least",
    "promised_most",
    "trainings",
)
"""Of the table."""

WAYS = ("report", "cleanlab, 5 folds", "cleanlab, our probabilities")
FIRST = 100


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the file has not yet, or print a file as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dataset", default="digits", help="(default: digits)")
    add("--data-dir", type=Path, help="folder or file of the dataset")
    kinds = ["all", "symmetric", "pair", "given"]
    add("--noise", choices=kinds, default="all", help="given: labels that come wrong (default: all cells)")
    add(
        "--rates", type=fraction, nargs="+", help="of the cells, those with these shares of wrong labels (default: all)"
    )
    add("--num-train", type=at_least(1), help="use the first so many training samples")
    add("--epochs", type=at_least(1), help="of each training")
    add("--seeds", type=at_least(0), nargs="+", default=[0])
    add("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu")
    add("--output", type=Path, default=Path("labels.jsonl"), help="a line a measurement; appended to")
    add("--table", type=Path, help="print this file, and measure nothing")
    args = parser.parse_args(argv)
    if args.table is not None:
        print(table([json.loads(line) for line in args.table.read_text().splitlines()]))
        return
    done = args.output.read_text().splitlines() if args.output.exists() else []
    keys = {json.loads(line)["key"] for line in done}
    cells = [("given", 0.0)] if args.noise == "given" else [cell for cell in CELLS if args.noise in ("all", cell[0])]
    rates = {rate for _, rate in cells}
    if args.rates is not None and not rates.issuperset(args.rates):
        parser.error(f"--rates of these cells are {', '.join(map(str, sorted(rates)))}, got {args.rates}")
    if args.rates is not None:
        cells = [cell for cell in cells if cell[1] in args.rates]
    for noise, rate in cells:
        for seed in args.seeds:
            settings = RunSettings(
                "mixnn-robust", args.dataset, noise, rate, seed, epochs=args.epochs, num_train=args.num_train
            )
            if settings.key in keys:
                continue
            line = measure(settings, args.data_dir, args.device)
            with args.output.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{args.dataset}, {noise} {rate:.0%}, seed {seed}: {line['ways']['report']}", file=sys.stderr)


def measure(settings: RunSettings, data_dir: Path | None, on: str) -> dict[str, Any]:
    """Train once and in folds on a device, and compare."""
    recipe = recipe_for(settings)
    data = load(settings.dataset, data_dir, recipe)
    given = given_labels(settings, data)
    is_wrong = (given != data.labels).numpy()
    everyone = np.arange(len(given))
    started = time.perf_counter()
    name = "mixnn-features" if settings.dataset == "features" else "mixnn-robust"  # as `mixnn-labels` does
    method, task = trained(settings, data, given, everyone, name, on)
    assert isinstance(method, MixNN)
    report = method.loader.label_report()
    own_seconds, started = time.perf_counter() - started, time.perf_counter()
    own = probabilities(method, task, everyone)
    cost = task.meter.units / (3 * len(given) * task.num_epochs)

    out_of_sample, folds_cost = np.empty_like(own), 0.0
    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=settings.seed)
    for rest, fold in folds.split(everyone, given.numpy()):
        method, fold_task = trained(settings, data, given, rest, "ce", on)
        folds_cost += fold_task.meter.units / (3 * len(given) * fold_task.num_epochs)
        out_of_sample[fold] = probabilities(method, task, fold)
    judgments = (
        of_report(report, is_wrong),
        of_cleanlab(out_of_sample, given, is_wrong),
        of_cleanlab(own, given, is_wrong),
    )
    ways = dict(zip(WAYS, judgments, strict=True))
    for way, trainings in zip(WAYS, (cost, folds_cost, cost), strict=True):
        ways[way]["trainings"] = trainings
    return {
        "key": settings.key,
        "settings": asdict(settings),
        "machine": describe_machine() | {"device": on, "cleanlab": version("cleanlab")},
        "actual_noise_rate": float(is_wrong.mean()),
        "seconds": {"report": own_seconds, "cleanlab, 5 folds": time.perf_counter() - started},
        "ways": ways,
    }


def trained(
    settings: RunSettings, data: Data, given: Tensor, rows: npt.NDArray[np.int64], name: str, on: str
) -> tuple[Method, Task]:
    """Train a method on some of the samples, on a device."""
    labels = given[torch.from_numpy(rows)]
    train, scan = (Relabeled(Subset(part, rows.tolist()), labels) for part in (data.train, data.scan))
    recipe = recipe_for(settings)
    task = Task(
        train, scan, labels, data.num_classes, data.shape, recipe, settings.rate, settings.seed, torch.device(on)
    )
    seed_everything(settings.seed, 0)
    method = all_methods()[name](task).to(task.device)
    for epoch in range(method.num_epochs):
        seed_everything(settings.seed, 1 + epoch)
        task.begin_epoch(epoch)
        method.train()
        method.begin_epoch(epoch)
        for batch in method.batches():
            method.step(batch)
        method.end_epoch(epoch)
    return method, task


def probabilities(method: Method, task: Task, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return what a method predicts of some of the task's samples, (n, C), rows summing to one."""
    method.eval()
    loader = DataLoader(Subset(task.scan_data, rows.tolist()), batch_size=500)
    with torch.no_grad(), task.meter.paused():
        found = torch.cat([method.predict(inputs.to(task.device)) for inputs, _ in loader]).double().cpu().numpy()
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def of_report(report: LabelReport, is_wrong: npt.NDArray[np.bool_]) -> dict[str, float | None]:
    """Judge a report."""
    wrong, issues = is_wrong[report.indices], report.issues()
    suspicion = 1 - report.clean_probability.astype(np.float64)
    figures = judged(suspicion, report.is_issue, wrong)
    promises: dict[str, float | None] = dict.fromkeys(("promised", "promised_least", "promised_most"))
    if len(issues) > 0:
        shares = issues.expected_precision(len(issues)), *issues.expected_precision_interval(len(issues))
        promises = {name: 100 * share for name, share in zip(promises, shares, strict=True)}
    return figures | {"expected": 100 * report.noise_rate} | promises


def of_cleanlab(
    predicted: npt.NDArray[np.float64], given: Tensor, is_wrong: npt.NDArray[np.bool_]
) -> dict[str, float | None]:
    """Judge cleanlab's flags and ranking, both by its defaults."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    labels = given.numpy()
    flagged = find_label_issues(labels, predicted, n_jobs=1)
    return judged(-get_label_quality_scores(labels, predicted), flagged, is_wrong) | {"expected": 100 * flagged.mean()}


def judged(
    suspicion: npt.NDArray[np.float64], flagged: npt.NDArray[np.bool_], is_wrong: npt.NDArray[np.bool_]
) -> dict[str, float | None]:
    """Say how well wrong labels were found, in percent; None for what does not exist."""
    found = float((flagged & is_wrong).sum())
    precision = found / flagged.sum() if flagged.any() else None
    recall = found / is_wrong.sum() if is_wrong.any() else None
    f1 = 2 * found / (flagged.sum() + is_wrong.sum()) if is_wrong.any() else None
    first = suspicion.argsort(kind="stable")[::-1][:FIRST]
    several = is_wrong.any() and not is_wrong.all()
    figures = {
        "auroc": roc_auc_score(is_wrong, suspicion) if several else None,
        "average_precision": average_precision_score(is_wrong, suspicion) if several else None,
        "flagged": flagged.mean(),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "first_hundred": is_wrong[first].mean(),
    }
    return {name: None if value is None else 100 * float(value) for name, value in figures.items()}


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Print measurements as Markdown, means over seeds."""
    head = f"| dataset | noise | way | {' | '.join(name.replace('_', ' ') for name in COLUMNS)} | seeds |"
    rows = [head, "|---" * (len(COLUMNS) + 4) + "|"]
    cells: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for line in lines:
        settings = line["settings"]
        cells.setdefault((settings["dataset"], settings["noise"], settings["rate"]), []).append(line)
    for (dataset, noise, rate), some in cells.items():
        for way in WAYS:
            values = [_mean([line["ways"][way].get(name) for line in some]) for name in COLUMNS]
            rows.append(f"| {dataset} | {noise} {rate:.0%} | {way} | {' | '.join(values)} | {len(some)} |")
    return "\n".join(rows)


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{fmean(known):.1f}" if known else "-"


if __name__ == "__main__":
    main()
