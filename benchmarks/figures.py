"""Draw the paper's figures from results.

    python -m benchmarks.figures results.jsonl
    python -m benchmarks.figures results.jsonl --figure 7b 7c --method ce mixnn --output pictures

Without --figure all are drawn that the results have runs for. Each is a PNG file, named after the figure. See
benchmarks/README.md for the runs that they are of: benchmarks/grids has them.

Figures 2, 7a, 7b and 7c are those of Lu & He 2021 (MixNN). 4 and 6 have the numbers that the library's documentation
gives them, and were not compared with the paper again. What 8 and 9 show in the paper is not known to us: under these
numbers are two pictures that its text argues from. Sensitivity has no number.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.drawing.accuracy import draw_accuracy, draw_watched_accuracy
from benchmarks.drawing.confusion import draw_confusion
from benchmarks.drawing.correction import draw_correction
from benchmarks.drawing.gradients import draw_gradients
from benchmarks.drawing.losses import draw_losses
from benchmarks.drawing.neighbors import draw_neighbors
from benchmarks.drawing.representations import draw_representations
from benchmarks.drawing.runs import Drawing, NothingToDrawError, read_runs
from benchmarks.drawing.sensitivity import draw_sensitivity


class Named(NamedTuple):
    """A figure: how its file is called, and what draws it."""

    file: str
    draw: Drawing


FIGURES = {
    "2": Named("figure-2-accuracy", draw_accuracy),
    "4": Named("figure-4-losses", draw_losses),
    "6": Named("figure-6-confusion", draw_confusion),
    "7a": Named("figure-7a-accuracy", draw_watched_accuracy),
    "7b": Named("figure-7b-gradients", draw_gradients),
    "7c": Named("figure-7c-neighbors", draw_neighbors),
    "8": Named("figure-8-representations", draw_representations),
    "9": Named("figure-9-correction", draw_correction),
    "sensitivity": Named("figure-sensitivity", draw_sensitivity),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Draw what is asked for; return 1 if there are no runs for a figure that was asked for by name."""
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        runs = read_runs(args.results)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if args.method:
        runs = [run for run in runs if run.settings["method"] in args.method]
        if not runs:
            parser.error(f"there is no run of {', '.join(args.method)}")
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --output: {error}")
    missing = 0
    for name in args.figure or FIGURES:
        figure = FIGURES[name]
        try:
            picture = figure.draw(runs)
        except NothingToDrawError as error:
            print(f"figure {name} is left out: {error}", file=sys.stderr)
            missing += 1
            continue
        path = args.output / f"{figure.file}.png"
        picture.savefig(path, dpi=150)
        print(path)
    return 1 if missing and (args.figure or missing == len(FIGURES)) else 0


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--figure", nargs="+", choices=list(FIGURES), metavar="NAME", help=", ".join(FIGURES))
    parser.add_argument("--method", nargs="+", metavar="M", help="only these methods")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
