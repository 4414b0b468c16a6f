"""Train methods on noisy labels, and append what comes out to a results file.

    python -m benchmarks.run --method ce elr mixnn --dataset digits --rate 0.4 --seeds 0 1 2 --output results.jsonl
    python -m benchmarks.run --method all --dataset digits --epochs 3 --rate 0.4 --output results.jsonl
    python -m benchmarks.run --grid benchmarks/grids/mnist.toml --data-dir DIR --output results.jsonl

Each run is a line of JSON. What the file already has is not run again, and an interrupted run goes on after the last
epoch that it has finished. As many runs go on at a time as there are cores, a core each.
"""

import argparse
import ast
import itertools
import multiprocessing
import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from benchmarks.harness.grid import read_grid
from benchmarks.harness.noise import NOISES
from benchmarks.harness.recipes import RECIPES, recipe_for
from benchmarks.harness.results import Line, append_result, read_results
from benchmarks.harness.settings import RunSettings
from benchmarks.harness.training import train_and_measure
from benchmarks.methods import all_methods


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not in the results file yet; return 1 if a run has failed."""
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        wanted = settings_of(args)
        for settings in wanted:
            recipe_for(settings)
        done = {line["key"] for line in read_results(args.output)} if args.output.exists() else set()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    jobs = [settings for settings in wanted if settings.key not in done]
    if len(jobs) < len(wanted):
        print(f"{len(wanted) - len(jobs)} of {len(wanted)} runs are in {args.output} already", file=sys.stderr)
    processes = max(1, min(args.processes, len(jobs)))
    failures = []
    # A process a run: its peak memory is its own, and what one leaves behind does not reach the next.
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        work = partial(attempt, args=args)
        for settings, line in tqdm(pool.imap_unordered(work, jobs), total=len(jobs), unit="run", disable=None):
            if isinstance(line, str):
                failures.append(f"{settings.title}: {line}")
                continue
            append_result(args.output, line)
            tqdm.write(f"{settings.title}: {line['figures']['last']['accuracy']:.2f} % in {line['seconds']:.0f} s")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def attempt(settings: RunSettings, args: argparse.Namespace) -> tuple[RunSettings, Line | str]:
    """Run once; of a run that fails, return the traceback: the others go on."""
    # Two runs side by side are done sooner than one after another with two threads each.
    torch.set_num_threads(1)
    checkpoint = args.output.with_suffix(".checkpoints") / f"{settings.key}.pt"
    try:
        return settings, train_and_measure(settings, args.data_dir, checkpoint, args.device)
    except Exception:  # noqa: BLE001  (whatever it is, it is reported)
        return settings, traceback.format_exc()


def settings_of(args: argparse.Namespace) -> list[RunSettings]:
    """Return the runs that a command line asks for.

    Raises:
        ValueError: a method is unknown.
    """
    if args.grid is not None:
        wanted = read_grid(args.grid)
    else:
        names = list(all_methods()) if args.method == ["all"] else args.method
        wanted = [
            RunSettings(
                name,
                args.dataset,
                args.noise,
                rate,
                seed,
                args.epochs,
                args.num_train,
                dict(args.recipe),
                dict(args.option),
                args.watch_training,
            )
            for seed, rate, name in itertools.product(args.seeds, args.rate, names)
        ]
    if unknown := sorted({settings.method for settings in wanted} - set(all_methods())):
        raise ValueError(f"--method: there is no {', '.join(unknown)}; there are {', '.join(all_methods())}")
    return wanted


def assignment(text: str) -> tuple[str, Any]:
    """Read ``name=value``, the value as Python writes it, or a word as it is."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, help="results file, a line of JSON a run; appended to")
    add("--data-dir", type=Path, help="folder that holds the dataset, as torchvision lays it out")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    processes = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    add("--processes", type=int, default=processes, help="runs at a time (default: as many as cores, one on a GPU)")
    add(
        "--grid",
        type=Path,
        help="TOML file with many runs, in place of the flags below; see benchmarks/harness/grid.py",
    )
    add("--method", nargs="+", metavar="M", default=["ce"], help=f"all, or some of: {', '.join(all_methods())}")
    add("--dataset", choices=list(RECIPES), default="digits", help="paper-: trained on as in the paper, for a GPU")
    add("--noise", choices=[*NOISES, "given"], default="symmetric", help="given: the labels that come with the data")
    add("--rate", type=float, nargs="+", default=[0.4], help="nominal share of wrong labels (default: 0.4)")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--epochs", type=int, help="length of a plain training (default: by dataset)")
    add("--num-train", type=int, help="use the first so many training samples (default: by dataset)")
    add("--recipe", type=assignment, nargs="+", default=[], metavar="NAME=VALUE", help="such as lr=0.1 network=convnet")
    add(
        "--option",
        type=assignment,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="of the method, such as alpha=0.9",
    )
    add("--watch-training", action="store_true", help="predict the training set after every epoch, for the figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
