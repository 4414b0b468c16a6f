"""Print results as Markdown: mean ± sample standard deviation over the seeds.

    python -m benchmarks.table results.jsonl
    python -m benchmarks.table results.jsonl --figure labels.auroc epochs.-1.training.memorized --against ce
    python -m benchmarks.table results.jsonl --paper IV

A cell is of the seeds that its runs have. With ``--against M`` a second table has the differences to a method, of the
same seed each: with few seeds that tells more than two means, as noise, initial weights and order are the same. With
``--paper T`` the rows of a paper's table stand below ours of the same dataset; of other datasets they follow by
themselves.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.published import PublishedRow, published_tables
from benchmarks.harness.results import Line, read_results

Row = tuple[str, str]
"""Method, and its options as text."""

Cells = dict[Row, dict[str, dict[int, float]]]
"""Row -> column -> seed -> value."""

ACCURACY = "figures.last.accuracy"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    published = published_tables()
    parser = build_parser(list(published))
    args = parser.parse_args(argv)
    paper = None if args.paper is None else published[args.paper]
    figures = args.figure or ([ACCURACY] if paper is None else paper.figures)
    methods = args.method or (None if paper is None else paper.methods)
    parts = [] if paper is None else [f"{paper.title}. Published: {paper.source}."]
    try:
        lines = [
            line for line in read_results(args.results) if methods is None or line["settings"]["method"] in methods
        ]
        for figure in figures:
            rows = [] if paper is None else [row for row in paper.rows if row.figure == figure]
            parts.append(tables(lines, figure, args.against, rows))
        print("\n\n".join(parts))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0


def build_parser(papers: Sequence[str]) -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.table", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument(
        "--figure",
        nargs="+",
        metavar="PATH",
        help="which figures, a table each, as paths in a line of the file, such as figures.mean_of_last_10.accuracy, "
        f"labels.right, cost.plain_trainings or epochs.9.test.accuracy (default: {ACCURACY}, or the paper's)",
    )
    parser.add_argument("--method", nargs="+", metavar="M", help="only these methods")
    parser.add_argument("--against", metavar="M", help="also print differences to this method, paired over the seeds")
    parser.add_argument("--paper", choices=papers, help="also print a published table, see benchmarks/published.toml")
    return parser


def tables(
    lines: Sequence[Line], figure: str, against: str | None = None, published: Sequence[PublishedRow] = ()
) -> str:
    """Return a table for each dataset, as Markdown.

    Args:
        lines: the runs.
        figure: path in a line.
        against: method to compare with.
        published: rows of a paper, of this figure.

    Raises:
        ValueError: no run has the figure, or there is no method to compare with.
    """
    by_dataset: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_dataset[_dataset(line)].append(line)
    left = list(published)
    parts = []
    compared = False
    for dataset, runs in by_dataset.items():
        cells = collect(runs, figure)
        if not cells:
            continue
        name = runs[0]["settings"]["dataset"].removeprefix("paper-")
        beside = [row for row in published if row.dataset == name]
        left = [row for row in left if row not in beside]
        parts.append(f"**{dataset}**: {figure}\n\n{markdown(with_published(cells, beside))}")
        if against is not None and (against, "") in cells:
            compared = True
            parts.append(f"**{dataset}**: {figure}, less that of {against}\n\n{markdown(differences(cells, against))}")
    if not parts and not published:
        known = f"it has {', '.join(sorted(_paths(lines[0])))}" if lines else "there is no run"
        raise ValueError(f"no run has the figure {figure}; {known}")
    if against is not None and not compared:
        raise ValueError(f"there is no {against} without options to compare with")
    for name in dict.fromkeys(row.dataset for row in left):
        rows = [row for row in left if row.dataset == name]
        parts.append(f"**{name}**: {figure}, as published; not run here\n\n{markdown(with_published({}, rows))}")
    return "\n\n".join(parts)


def collect(lines: Iterable[Line], figure: str) -> Cells:
    """Sort a figure of all runs by method, noise and seed; what a run does not have is left out."""
    cells: Cells = {}
    for line in lines:
        value = lookup(line, figure)
        if value is not None:
            settings = line["settings"]
            columns = cells.setdefault(row_of(settings), {})
            columns.setdefault(column_of(settings), {})[settings["seed"]] = value
    return cells


def with_published(cells: Cells, rows: Iterable[PublishedRow]) -> Cells:
    """Return our rows, each with a paper's of the same method and options below it, and then the paper's others."""
    papers: Cells = {}
    for row in rows:
        options = row_of({"method": row.method, "options": row.options})[1]
        papers[row.method, options] = {column: {0: value} for column, value in row.values.items()}
    found: Cells = {}
    for (method, options), columns in (cells | {row: {} for row in papers if row not in cells}).items():
        if columns:
            found[method, options] = columns
        if (method, options) in papers:
            found[f"{method}, published", options] = papers[method, options]
    return found


def differences(cells: Cells, against: str) -> Cells:
    """Subtract a method's values from all others', seed by seed."""
    reference = cells[against, ""]
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
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.lstrip("-").isdecimal() and -len(value) <= int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return float(value) if isinstance(value, int | float) else None


def row_of(settings: Mapping[str, Any]) -> Row:
    """Return the row of a run: what tells methods and their options apart."""
    return settings["method"], ", ".join(f"{name} {value}" for name, value in sorted(settings["options"].items()))


def column_of(settings: Mapping[str, Any]) -> str:
    """Return the column of a run: its noise."""
    if settings["noise"] == "given":
        return "given labels"
    return "clean" if settings["rate"] == 0 else f"{settings['noise']} {100 * settings['rate']:g}%"


def _paths(line: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in line.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not prefix.startswith(("settings.", "recipe.")):
            yield prefix + key


def _dataset(line: Line) -> str:
    changes = [f"{name} {value}" for name, value in line["settings"]["recipe"].items()]
    return ", ".join(
        [line["settings"]["dataset"], f"{line['num_train']} samples", f"{line['recipe']['epochs']} epochs", *changes]
    )


def _noise_order(column: str) -> tuple[bool, str, float]:
    name, _, rate = column.rpartition(" ")
    return (column != "clean", name, float(rate.rstrip("%")) if rate.endswith("%") else 0.0)


if __name__ == "__main__":
    sys.exit(main())
