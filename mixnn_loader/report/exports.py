"""A label report as a table, and as the files that other tools read."""

import csv
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from mixnn_loader._utils.installed import own_version

if TYPE_CHECKING:
    import pandas as pd

    from mixnn_loader.report.label_report import LabelReport

_DIGITS = 6
"""Significant digits of float32 that are written to files."""

_CHUNK = 65_536
"""Rows that are in memory as Python objects at a time."""


def columns(report: "LabelReport") -> dict[str, npt.NDArray[Any]]:
    """Return the columns of the table, in their order.

    ``index``; ``path``, where the dataset knows files; ``given_label`` and ``suggested_label``, class numbers;
    ``given_class`` and ``suggested_class``, their names; ``is_issue``; ``clean_probability``; ``confidence``; ``loss``;
    ``wrong_event_share``; ``label_probability``; ``agreement``; ``neighbors``, dataset indices, nearest first,
    separated by blanks.

    Returns:
        name -> (n,), numbers, strings and booleans.
    """
    names = np.asarray(report.class_names, dtype=object)
    neighbors = np.empty(len(report), dtype=object)
    neighbors[:] = [" ".join(map(str, row)) for row in report.neighbors.tolist()]
    path = {} if report.paths is None else {"path": np.asarray(report.paths, dtype=object)}
    return {
        "index": report.indices,
        **path,
        "given_label": report.given_labels,
        "suggested_label": report.suggested_labels,
        "given_class": names[report.given_labels],
        "suggested_class": names[report.suggested_labels],
        "is_issue": report.is_issue,
        "clean_probability": report.clean_probability,
        "confidence": report.confidence,
        "loss": report.losses,
        "wrong_event_share": report.wrong_event_share,
        "label_probability": report.label_probability,
        "agreement": report.agreement,
        "neighbors": neighbors,
    }


def to_pandas(report: "LabelReport") -> "pd.DataFrame":
    """See `LabelReport.to_pandas`."""
    return _pandas().DataFrame(columns(report))


def to_cleanlab(report: "LabelReport") -> "pd.DataFrame":
    """See `LabelReport.to_cleanlab`."""
    order = report.indices.argsort(kind="stable")
    return _pandas().DataFrame(
        {
            "is_label_issue": report.is_issue[order],
            "label_score": report.clean_probability[order],
            "given_label": report.given_labels[order],
            "predicted_label": report.suggested_labels[order],
        },
        index=report.indices[order],
    )


def to_csv(report: "LabelReport", path: Path) -> None:
    """See `LabelReport.to_csv`."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(columns(report[:0]))
        for part in _parts(report):
            writer.writerows(zip(*map(_plain, columns(part).values()), strict=True))


def to_json(report: "LabelReport", path: Path) -> None:
    """See `LabelReport.to_json`."""
    head = {
        "class_names": list(report.class_names),
        "num_samples": report.num_samples,
        "wrong_labels": report.wrong_labels,
        "wrong_labels_interval": list(report.wrong_labels_interval),
        "transition": [_plain(row) for row in report.transition],
        "duplicates": [group.tolist() for group in report.duplicates],
    }
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head, allow_nan=False)[:-1] + ', "rows": [')
        separator = "\n"
        for part in _parts(report):
            table = columns(part) | {"neighbors": part.neighbors}
            for row in zip(*map(_plain, table.values()), strict=True):
                values = {name: None if _is_nan(value) else value for name, value in zip(table, row, strict=True)}
                file.write(separator + json.dumps(values, allow_nan=False))
                separator = ",\n"
        file.write("\n]}\n")


def to_label_studio(report: "LabelReport", path: Path, prefix: str) -> None:
    """See `LabelReport.to_label_studio`."""
    model = f"mixnn_loader {own_version()}"
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        separator = "\n"
        for part in _parts(report):
            table = columns(part)
            for row in zip(*map(_plain, table.values()), strict=True):
                of_row = dict(zip(table, row, strict=True))
                what = quote(os.fsencode(of_row["path"])) if "path" in of_row else of_row["index"]
                task = {
                    "data": {"image": f"{prefix}{what}", "index": of_row["index"], "given": of_row["given_class"]},
                    "predictions": [
                        {
                            "model_version": model,
                            "score": of_row["confidence"],
                            "result": [
                                {
                                    "from_name": "label",
                                    "to_name": "image",
                                    "type": "choices",
                                    "value": {"choices": [of_row["suggested_class"]]},
                                }
                            ],
                        }
                    ],
                }
                file.write(separator + json.dumps(task, allow_nan=False))
                separator = ",\n"
        file.write("\n]\n")


def _parts(report: "LabelReport") -> Iterator["LabelReport"]:
    """Cut a report into parts."""
    for start in range(0, len(report), _CHUNK):
        yield report[start : start + _CHUNK]


def _plain(values: npt.NDArray[Any]) -> list[Any]:
    """Make Python objects of a column, float32 with no more digits than it has."""
    if values.dtype == np.float32:
        wide = values.astype(np.float64)
        size = np.floor(np.log10(np.maximum(np.abs(wide), 1e-30)))
        scale = 10 ** (_DIGITS - 1 - size)
        rounded: list[Any] = (np.round(wide * scale) / scale).tolist()
        return rounded
    listed: list[Any] = values.tolist()
    return listed


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _pandas() -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("tables need pandas: python -m pip install pandas") from error
    return pd
