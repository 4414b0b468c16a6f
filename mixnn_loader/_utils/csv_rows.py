"""A CSV file as spreadsheets write it -> its rows."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path


def csv_rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Give the rows of a file but for empty ones, which spreadsheets leave behind, each with its last line's number.

    Args:
        file: UTF-8; the mark that spreadsheets write at the start is none of the text.
        columns: those that it must have; a row has all that there are, None where the row ends before them.

    Raises:
        ValueError: the file is not UTF-8, lacks a column, or has a quote that is not closed.
        OSError: the file cannot be read.
    """
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines, strict=True)
        try:
            names = reader.fieldnames or []
            if not set(columns) <= set(names):
                raise ValueError(f"{file} must have the columns {_listed(columns)}, its first line has {names}")
            for row in reader:
                values = {name: row[name] for name in names}  # not what is beyond the last column
                if any(values.values()):
                    yield reader.line_num, values
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} must be UTF-8: {error}") from error
        except csv.Error as error:
            raise ValueError(f"{file}, after line {reader.line_num}: {error}; is a quote not closed?") from error


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]])
