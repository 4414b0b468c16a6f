"""What a person has decided on the page of a label report."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from mixnn_loader._utils.csv_rows import csv_rows

DECISIONS = ("accept", "keep", "other", "unsure")
"""What a person has made of a suspect: the suggested label, the given one, another one, or nothing."""

_NO_TEXT = re.compile("[\ud800-\udfff]")
"""Bytes of a file's name that are no UTF-8, as Python has them."""


@dataclass(frozen=True)
class Decision:
    """What was decided on one sample.

    Attributes:
        index: of the sample in the dataset.
        decision: one of `DECISIONS`.
        new: the new label; -1: it stays.
        given: the label that it was given; -1: not known.
    """

    index: int
    decision: str
    new: int
    given: int


def read_decisions(file: Path, count: int, paths: Sequence[str] | None) -> list[Decision]:
    """Read a file of decisions, at most one a sample.

    Args:
        file: CSV, see `mixnn_loader.CorrectedLabels.from_csv`.
        count: N, the samples of the dataset.
        paths: (N,), of their files, relative to the dataset's root; None: not known.

    Raises:
        ValueError: it is no such file; the message names the line.
    """
    found: dict[int, Decision] = {}
    for line, row in csv_rows(file, ("index", "new", "decision")):
        where, decision = f"{file}, line {line}", row["decision"]
        if decision not in DECISIONS:
            raise ValueError(f"{where}: decision must be one of {', '.join(DECISIONS)}, got {decision!r}")
        changes = decision in ("accept", "other")
        try:
            index, new = int(row["index"] or ""), int(row["new"] or "") if changes else -1
            given = int(row.get("given") or -1)
        except ValueError as error:
            raise ValueError(
                f"{where}: index, new and given must be integers, got {row['index']!r}, {row['new']!r} and "
                f"{row.get('given')!r}"
            ) from error
        if not 0 <= index < count or (changes and new < 0):
            raise ValueError(f"{where}: no index of the {count} samples or no class index: {index} and {new}")
        path = row.get("path")
        if path and paths is not None and not _same_file(path, paths[index]):
            raise ValueError(f"{where}: sample {index} is {paths[index]} in the dataset, and {path} in the file")
        if index in found:
            raise ValueError(f"{where}: there are two decisions for index {index}")
        found[index] = Decision(index, decision, new, given)
    return list(found.values())


def _same_file(one: str, other: str) -> bool:
    """Whether two paths may be of one file, relative to different folders.

    What is no text in a name, a browser writes as the replacement character.
    """
    ends = [PurePath(_NO_TEXT.sub("\ufffd", path)).parts[::-1] for path in (one, other)]
    return all(mine == theirs for mine, theirs in zip(*ends, strict=False))
