"""What papers report, to be printed beside what our runs came to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.lines import Row, row_of
from benchmarks.harness.toml_files import read_toml, with_none

FILE = Path(__file__).parents[1] / "published.toml"


@dataclass(frozen=True)
class PublishedRow:
    """A row of a paper's table.

    Attributes:
        dataset: its name here, without ``paper-``.
        method: its name here.
        values: column, as in our tables -> value.
        figure: what the values are, a path in a line of a results file.
        options: of the method.
    """

    dataset: str
    method: str
    values: Mapping[str, float]
    figure: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedTable:
    """A paper's table.

    Attributes:
        title: what it is.
        source: where it stands, and what it was measured with.
        figures: the paths in a line of a results file that are the same measurements.
        rows: the values.
        methods: of which our own rows are wanted beside it; None: all that are in the results.
    """

    title: str
    source: str
    figures: tuple[str, ...]
    rows: tuple[PublishedRow, ...]
    methods: tuple[str, ...] | None = None

    @property
    def own_rows(self) -> set[Row]:
        """The rows of our tables that have one here."""
        return {row_of({"method": row.method, "options": row.options}) for row in self.rows}

    @property
    def is_ablation(self) -> bool:
        """Whether it compares forms of a method, by its options."""
        return any(row.options for row in self.rows)


def published_tables(path: Path = FILE) -> dict[str, PublishedTable]:
    """Read all tables by name."""
    tables = read_toml(path)["tables"]
    return {name: _table(entries) for name, entries in tables.items()}


def _table(entries: Mapping[str, Any]) -> PublishedTable:
    first = entries["figures"][0]
    rows = tuple(
        PublishedRow(
            row["dataset"],
            row["method"],
            row["values"],
            row.get("figure", first),
            with_none(row.get("options", {})),
        )
        for row in entries["rows"]
    )
    methods = entries.get("methods")
    return PublishedTable(
        entries["title"],
        entries["source"],
        tuple(entries["figures"]),
        rows,
        None if methods is None else tuple(methods),
    )
