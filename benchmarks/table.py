"""Print results as Markdown: mean ± sample standard deviation over the seeds.

    python -m benchmarks.table results.jsonl
    python -m benchmarks.table results.jsonl --figure labels.auroc --against ce

A cell is of the seeds that its runs have. With ``--against M`` a second table has the differences to a method, of the
same seed each: with few seeds that tells more than two means, as noise, initial weights and order are the same.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.results import Line, read_results

Row = tuple[str, str]
"""Method, and its options as text."""

Cells = dict[Row, dict[str, dict[int, float]]]
"""Row -> column -> seed -> value."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.table", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument(
        "--figure",
        default="figures.last.accuracy",
        metavar="PATH",
        help="which figure, as a path in a line of the file, such as figures.mean_of_last_10.accuracy, "
        "labels.right or cost.plain_trainings (default: %(default)s)",
    )
    parser.add_argument("--against", metavar="M", help="also print differences to this method, paired over the seeds")
    args = parser.parse_args(argv)
    try:
        lines = read_results(args.results)
        print(tables(lines, args.figure, args.against))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0


def tables(lines: Sequence[Line], figure: str, against: str | None = None) -> str:
    """Return a table for each dataset, as Markdown.

    Raises:
        ValueError: no run has the figure, or there is no method to compare with.
    """
    by_dataset: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_dataset[_dataset(line)].append(line)
    parts = []
    for dataset, runs in by_dataset.items():
        cells = collect(runs, figure)
        if not cells:
            continue
        parts.append(f"**{dataset}**: {figure}\n\n{markdown(cells)}")
        if against is not None:
            parts.append(f"**{dataset}**: {figure}, less that of {against}\n\n{markdown(differences(cells, against))}")
    if not parts:
        raise ValueError(
            f"no run has the figure {figure}; a run has {', '.join(sorted(_paths(lines[0]))) if lines else 'nothing'}"
        )
    return "\n\n".join(parts)


def collect(lines: Iterable[Line], figure: str) -> Cells:
    """Sort a figure of all runs by method, noise and seed; what a run does not have is left out."""
    cells: Cells = {}
    for line in lines:
        value = lookup(line, figure)
        if value is not None:
            settings = line["settings"]
            columns = cells.setdefault(_row(settings), {})
            columns.setdefault(_column(settings), {})[settings["seed"]] = value
    return cells


def differences(cells: Cells, against: str) -> Cells:
    """Subtract a method's values from all others', seed by seed.

    Raises:
        ValueError: there is no such method.
    """
    reference = cells.get((against, ""))
    if reference is None:
        raise ValueError(f"there is no {against} without options to compare with")
    paired: Cells = {}
    for row, columns in cells.items():
        for column, values in columns.items():
            base = reference.get(column, {})
            common = {seed: value - base[seed] for seed, value in values.items() if seed in base}
            if common and row != (against, ""):
                paired.setdefault(row, {})[column] = common
    return paired


def markdown(cells: Cells) -> str:
    """Lay out a table: a row a method, a column a kind and rate of noise."""
    names = sorted({column for columns in cells.values() for column in columns}, key=_noise_order)
    lines = [f"| method | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for (method, options), columns in cells.items():
        row = [spread(list(columns.get(name, {}).values())) for name in names]
        lines.append(f"| {method}{f' ({options})' if options else ''} | {' | '.join(row)} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Show a mean and, of several values, the sample standard deviation."""
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def lookup(line: Line, path: str) -> float | None:
    """Return a figure by its path in a line; None where the run has none."""
    value: Any = line
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) else None


def _paths(line: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in line.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{key}.")
        elif isinstance(value, float):
            yield prefix + key


def _dataset(line: Line) -> str:
    changes = [f"{name} {value}" for name, value in line["settings"]["recipe"].items()]
    return ", ".join(
        [line["settings"]["dataset"], f"{line['num_train']} samples", f"{line['recipe']['epochs']} epochs", *changes]
    )


def _row(settings: Mapping[str, Any]) -> Row:
    return settings["method"], ", ".join(f"{name} {value}" for name, value in sorted(settings["options"].items()))


def _column(settings: Mapping[str, Any]) -> str:
    if settings["noise"] == "given":
        return "given labels"
    return "clean" if settings["rate"] == 0 else f"{settings['noise']} {settings['rate']:.0%}"


def _noise_order(column: str) -> tuple[bool, str, float]:
    name, _, rate = column.rpartition(" ")
    return (column != "clean", name, float(rate.rstrip("%")) if rate.endswith("%") else 0.0)


if __name__ == "__main__":
    sys.exit(main())
