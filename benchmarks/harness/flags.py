"""The flags of `benchmarks.run`, and how their values are read."""

import argparse
import ast
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.noise import NOISES
from benchmarks.harness.recipes import RECIPES
from benchmarks.methods import all_methods


def build_parser(description: str | None = None) -> argparse.ArgumentParser:
    """Describe the command line; what describes runs is None where it is not given."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, help="results file, a line of JSON a run; appended to")
    add(
        "--data-dir", type=Path, help="folder that holds the dataset, as torchvision lays it out; of features, the file"
    )
    add("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu")
    processes = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    add(
        "--processes",
        type=at_least(1),
        default=processes,
        help="runs at a time (default: as many as cores, one on a GPU)",
    )
    add("--grid", type=Path, help="TOML file with many runs; see benchmarks/harness/grid.py")
    add("--method", nargs="+", metavar="M", help=f"all, or some of: {', '.join(all_methods())} (default: ce)")
    add("--dataset", choices=list(RECIPES), help="paper-: as in the paper, for a GPU (default: digits)")
    add("--noise", choices=[*NOISES, "given"], help="given: the labels that come with the data (default: symmetric)")
    add("--rate", type=fraction, nargs="+", help="nominal share of wrong labels (default: 0.4)")
    add("--seeds", type=at_least(0), nargs="+", help="(default: 0)")
    add("--epochs", type=at_least(1), help="length of a plain training (default: by dataset)")
    add("--num-train", type=at_least(1), help="use the first so many training samples (default: by dataset)")
    add("--recipe", type=assignment, nargs="+", metavar="NAME=VALUE", help="such as lr=0.1 network=convnet")
    add("--option", type=assignment, nargs="+", metavar="NAME=VALUE", help="of the method, such as momentum=0.8")
    add(
        "--watch-training",
        action="store_true",
        help="predict the training set after every epoch, and keep some of its samples, for the figures",
    )
    return parser


def assignment(text: str) -> tuple[str, Any]:
    """Read ``name=value``, the value as Python writes it, true and false as TOML does, or a word as it is."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        found = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
        json.dumps(found)
    except (SyntaxError, ValueError):
        return name, value
    except TypeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written to a results file") from error
    return name, found


def at_least(least: int) -> Callable[[str], int]:
    """Return a reader of integers."""

    def integer(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return integer


def fraction(text: str) -> float:
    """Read a number in [0, 1)."""
    if not 0 <= (value := float(text)) < 1:
        raise argparse.ArgumentTypeError(f"must lie in [0, 1), got {text}")
    return value


def device(text: str) -> str:
    """Read the name of a device that is there."""
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: {str(error).splitlines()[0]}") from error
    return text
