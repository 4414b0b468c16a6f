"""Print results as Markdown: mean ± sample standard deviation over the seeds.

    python -m benchmarks.table results.jsonl
    python -m benchmarks.table results.jsonl --figure labels.auroc epochs.-1.training.memorized --against ce
    python -m benchmarks.table results.jsonl --figure cost.plain_trainings seconds --over ce
    python -m benchmarks.table results.jsonl --paper IV

A cell is of the seeds that its runs have; where they are fewer than in other cells of the table, it says how many. With
``--against M`` a second table has the differences to a method, of the same seed each: with few seeds that tells more
than two means, as noise, initial weights and order are the same. With ``--over M`` it has quotients instead, such as
the cost in multiples of that of ``ce``. With ``--paper T`` the rows of a paper's table stand below ours of the same
dataset; of other datasets they follow by themselves. An ablation has only the runs that the paper's has.
"""

import argparse
import operator
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.lines import ACCURACY, Row, column_of, lookup, row_of
from benchmarks.harness.published import PublishedRow, published_tables
from benchmarks.harness.results import Line, read_results

Cells = dict[Row, dict[str, dict[int, float]]]
"""Row -> column -> seed -> value."""


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
        found = read_results(args.results)
        lines = [line for line in found if methods is None or line["settings"]["method"] in methods]
        if paper is not None and paper.is_ablation:
            lines = [line for line in lines if row_of(line["settings"]) in paper.own_rows]
        if not lines and paper is None:
            known = ", ".join(sorted({line["settings"]["method"] for line in found}))
            wanted = f" of {', '.join(methods)}; there are runs of {known}" if known and methods else ""
            raise ValueError(f"there is no run{wanted}")
        for figure in figures:
            rows = [] if paper is None else [row for row in paper.rows if row.figure == figure]
            parts.append(tables(lines, figure, against=args.against, over=args.over, published=rows))
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
    compare = parser.add_mutually_exclusive_group()
    compare.add_argument("--against", metavar="M", help="also print differences to this method, paired over the seeds")
    compare.add_argument("--over", metavar="M", help="also print quotients by this method, paired over the seeds")
    parser.add_argument("--paper", choices=papers, help="also print a published table, see benchmarks/published.toml")
    return parser


def tables(
    lines: Sequence[Line],
    figure: str,
    *,
    against: str | None = None,
    over: str | None = None,
    published: Sequence[PublishedRow] = (),
) -> str:
    """Return a table for each dataset, as Markdown.

    Args:
        lines: the runs.
        figure: path in a line.
        against: method to compare with by differences.
        over: method to compare with by quotients, where there is none of the former.
        published: rows of a paper, of this figure.

    Raises:
        ValueError: no run has the figure, or there is no method to compare with.
    """
    by_dataset: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_dataset[_dataset(line)].append(line)
    reference, combine, relation = against, operator.sub, "less that of"
    if reference is None:
        reference, combine, relation = over, operator.truediv, "over that of"
    left = list(published)
    parts = []
    for dataset, runs in by_dataset.items():
        cells = collect(runs, figure)
        if not cells:
            continue
        name = runs[0]["settings"]["dataset"].removeprefix("paper-")
        beside = [row for row in published if row.dataset == name]
        left = [row for row in left if row not in beside]
        parts.append(f"**{dataset}**: {figure}\n\n{markdown(with_published(cells, beside))}")
        if reference is not None and (reference, "") in cells:
            title = f"**{dataset}**: {figure}, {relation} {reference}"
            parts.append(f"{title}\n\n{markdown(paired(cells, reference, combine))}")
    if not parts and not published:
        known = f"; it has {', '.join(sorted(_paths(lines[0])))}" if lines else ""
        raise ValueError(f"no run has the figure {figure}{known}")
    # One that has not this figure, such as labels.right of cross-entropy, has others to be compared by.
    if reference is not None and (reference, "") not in {row_of(line["settings"]) for line in lines}:
        raise ValueError(f"there is no {reference} without options to compare with")
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


def paired(cells: Cells, reference: str, combine: Callable[[float, float], float]) -> Cells:
    """Combine all others' values with a method's, seed by seed; a zero has no quotients."""
    bases = cells[reference, ""]
    found: Cells = {}
    for row, columns in cells.items():
        for column, values in columns.items():
            base = bases.get(column, {})
            common = {
                seed: combine(value, base[seed])
                for seed, value in values.items()
                if seed in base and (base[seed] or combine is not operator.truediv)
            }
            if common and row != (reference, ""):
                found.setdefault(row, {})[column] = common
    return found


def markdown(cells: Cells) -> str:
    """Lay out a table: a row a method, a column a kind and rate of noise."""
    names = sorted({column for columns in cells.values() for column in columns}, key=_noise_order)
    lines = [f"| method | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    most = max((len(values) for columns in cells.values() for values in columns.values()), default=0)
    for (method, options), columns in cells.items():
        row = [spread(list(columns.get(name, {}).values()), most) for name in names]
        lines.append(f"| {method}{f' ({options})' if options else ''} | {' | '.join(row)} |")
    return "\n".join(lines)


def spread(values: Sequence[float], usual: int | None = None) -> str:
    """Show a mean and, of several values, the sample standard deviation; and how many, where fewer than usual."""
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.2f}"
    if len(values) == 1:
        return mean
    fewer = f" ({len(values)} seeds)" if usual is not None and len(values) < usual else ""
    return f"{mean} ± {statistics.stdev(values):.2f}{fewer}"


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
