"""Train methods on noisy labels, and append what comes out to a results file.

    python -m benchmarks.run --method ce elr mixnn --dataset digits --rate 0.4 --seeds 0 1 2 --output results.jsonl
    python -m benchmarks.run --method all --dataset digits --epochs 3 --rate 0.4 --output results.jsonl
    python -m benchmarks.run --grid benchmarks/grids/small/table4.toml --data-dir DIR --output results.jsonl

Each run is a line of JSON. What the file already has is not run again, and an interrupted run goes on after the last
epoch that it has finished. As many runs go on at a time as there are cores, a core each.

With --grid, --method, --dataset and --seeds choose among the runs of the file, --epochs and --num-train make them
shorter, and the other flags of a run are refused.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from benchmarks.harness.data import WITHOUT_FILES
from benchmarks.harness.flags import build_parser
from benchmarks.harness.grid import read_grid
from benchmarks.harness.noise import NOISES
from benchmarks.harness.options import check_options
from benchmarks.harness.recipes import recipe_for
from benchmarks.harness.results import Line, append_result, checkpoint_file, read_results, samples_file
from benchmarks.harness.settings import RunSettings, SettingError
from benchmarks.harness.side_by_side import Failure, run_each
from benchmarks.harness.training import train_and_measure
from benchmarks.methods import all_methods

DEFAULTS: dict[str, Any] = {
    "method": ["ce"],
    "dataset": "digits",
    "noise": "symmetric",
    "rate": [0.4],
    "seeds": [0],
    "epochs": None,
    "num_train": None,
    "recipe": [],
    "option": [],
    "watch_training": False,
}
"""Of the flags that describe runs; the parser leaves None where a flag is not given, to know it."""

WITH_GRID = ("method", "dataset", "seeds", "epochs", "num_train")
FLAGS = {"seed": "seeds", "options": "option", "num_train": "num-train"}
"""Attributes of `RunSettings` whose flag has another name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not in the results file yet; return 1 if a run has failed."""
    parser = build_parser(__doc__)
    args = parser.parse_args(argv)
    try:
        wanted = settings_of(args)
        for settings in wanted:
            check(settings, args.data_dir)
        done = {line["key"] for line in read_results(args.output)} if args.output.exists() else set()
        # A file that cannot be written is found out now, and not after a training.
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.open("ab").close()
    except SettingError as error:
        flag = FLAGS.get(error.name, error.name)
        parser.error(f"argument {f'--grid {args.grid}: {error.name}' if args.grid else f'--{flag}'}: {error.message}")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    jobs = [settings for settings in wanted if settings.key not in done]
    if len(jobs) < len(wanted):
        print(f"{len(wanted) - len(jobs)} of {len(wanted)} runs are in {args.output} already", file=sys.stderr)
    failures = []
    try:
        with closing(run_each(partial(attempt, args=args), jobs, args.processes)) as answers:
            for answer in tqdm(answers, total=len(jobs), unit="run", disable=None):
                if isinstance(answer, Failure):
                    # At once: the others may take days.
                    tqdm.write(f"{answer.job.title}: {answer.reason.rstrip()}", file=sys.stderr)
                    failures.append(answer)
                    continue
                settings, line = answer
                append_result(args.output, line)
                checkpoint_file(args.output, settings.key).unlink(missing_ok=True)
                tqdm.write(f"{settings.title}: {line['figures']['last']['accuracy']:.2f} % in {line['seconds']:.0f} s")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on after the last whole epoch of each run", file=sys.stderr)
        return 130
    if failures:
        print(f"{len(failures)} of {len(jobs)} runs failed:", file=sys.stderr)
    for failure in failures:
        print(f"  {failure.job.title}: {failure.reason.rstrip().splitlines()[-1]}", file=sys.stderr)
    return 1 if failures else 0


def attempt(settings: RunSettings, args: argparse.Namespace) -> Line:
    """Run once."""
    # Two runs side by side are done sooner than one after another with two threads each.
    torch.set_num_threads(1)
    checkpoint = checkpoint_file(args.output, settings.key)
    samples = samples_file(args.output, settings.key)
    return train_and_measure(settings, args.data_dir, checkpoint, args.device, samples)


def settings_of(args: argparse.Namespace) -> list[RunSettings]:
    """Return the runs that a command line asks for, each once.

    Raises:
        OSError: the grid's file cannot be read.
        ValueError: a flag does not go with a grid, a method is unknown, or the grid has no such runs.
    """
    if args.grid is not None:
        runs = from_grid(args)
    else:
        given = {
            name: default if (value := getattr(args, name)) is None else value for name, default in DEFAULTS.items()
        }
        runs = [
            RunSettings(
                method,
                given["dataset"],
                given["noise"],
                rate,
                seed,
                given["epochs"],
                given["num_train"],
                dict(given["recipe"]),
                dict(given["option"]),
                given["watch_training"],
            )
            for seed, rate, method in itertools.product(given["seeds"], given["rate"], given["method"])
        ]
    if unknown := set(args.method or ()) - {"all", *all_methods()}:
        raise ValueError(
            f"argument --method: there is no {', '.join(sorted(unknown))}; there are {', '.join(all_methods())}"
        )
    wanted: dict[str, RunSettings] = {}
    for settings in runs:
        names = list(all_methods()) if settings.method == "all" else [settings.method]
        for each in (replace(settings, method=name) for name in names):
            if args.grid is None or args.method is None or {each.method, "all"} & set(args.method):
                wanted.setdefault(each.key, each)
    if not wanted:
        raise ValueError(f"--grid {args.grid} has no run of {', '.join(args.method)}")
    return list(wanted.values())


def from_grid(args: argparse.Namespace) -> list[RunSettings]:
    """Return a grid's runs, of the datasets and seeds that are asked for, as long as is asked for."""
    for name in DEFAULTS:
        if name not in WITH_GRID and getattr(args, name) not in (None, False):
            raise ValueError(f"argument --{name.replace('_', '-')}: not allowed with --grid, whose file says it")
    runs = [
        settings
        for settings in read_grid(args.grid)
        if (args.dataset is None or settings.dataset == args.dataset)
        and (args.seeds is None or settings.seed in args.seeds)
    ]
    if not runs:
        raise ValueError(f"--grid {args.grid} has no run of that --dataset and those --seeds")
    changes = {name: value for name in ("epochs", "num_train") if (value := getattr(args, name)) is not None}
    return [replace(settings, **changes) for settings in runs]


def check(settings: RunSettings, data_dir: Path | None) -> None:
    """Find out what can be known to be wrong before anything is trained.

    Raises:
        SettingError: something is.
        ValueError: the data's folder is missing.
    """
    methods = all_methods()
    if settings.method not in methods:
        raise SettingError("method", f"there is no {settings.method}; there are {', '.join(methods)}")
    check_options(settings.method, methods[settings.method], settings.options)
    recipe_for(settings)
    if settings.noise not in (*NOISES, "given"):
        raise SettingError("noise", f"must be one of {', '.join([*NOISES, 'given'])}, got {settings.noise!r}")
    if settings.noise == "asymmetric" and not any(name in settings.dataset for name in ("cifar", "features")):
        # Other datasets have ten classes, too, but none that is like another as CIFAR's cat is like its dog.
        raise SettingError("noise", f"asymmetric is between similar classes of CIFAR; for {settings.dataset} take pair")
    if settings.dataset.removeprefix("paper-") not in WITHOUT_FILES:
        if data_dir is None:
            raise ValueError(f"argument --data-dir: {settings.dataset} needs one, the folder that holds the dataset")
        if not data_dir.exists():
            raise ValueError(f"argument --data-dir: there is no {data_dir}")


if __name__ == "__main__":
    sys.exit(main())
