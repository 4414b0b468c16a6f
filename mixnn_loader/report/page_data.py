"""What the page of a label report shows, as JSON."""

import hashlib
import json
from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from mixnn_loader.report.pictures import as_image, as_text, data_uri, inputs_of, normalization_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from mixnn_loader.report.label_report import LabelReport

SIZE, NEIGHBOR_SIZE = 112, 56
"""Pixels of the pictures of suspects and of neighbors."""

QUALITIES = (80, 60, 40, 20, 5)
"""Of pictures: the first with which the page is small enough is taken."""

MOST_BYTES = 18_000_000
"""Of all pictures of a page."""

TRIED = 32
"""Suspects by whom the size of a page is estimated."""

BINS = 40
"""Bars of the distribution of losses."""


def page_data(
    report: "LabelReport", dataset: Any, *, top: int, neighbors: int, input_key: Hashable = None
) -> dict[str, Any]:
    """Gather what the page shows.

    Args:
        report: the labels.
        dataset: gives the samples, by the report's indices.
        top: how many suspects.
        neighbors: how many neighbors of each.
        input_key: which part of a sample is shown, see `inputs_of`.

    Returns:
        Primitives, lists and dicts.
    """
    is_whole = len(report) == report.num_samples
    suspects = report[:top]
    listed = suspects.neighbors[:, :neighbors]
    rows = [
        {
            "index": index,
            "path": None if suspects.paths is None else suspects.paths[row],
            "given": int(suspects.given_labels[row]),
            "suggested": int(suspects.suggested_labels[row]),
            "clean": _short(suspects.clean_probability[row]),
            "readings": [_short(value) for value in suspects.readings[row]],
            "confidence": _short(suspects.confidence[row]),
            "loss": _short(suspects.losses[row]),
            "events": _short(suspects.wrong_event_share[row]),
            "history": _short(suspects.label_probability[row]),
            "agreeing": round(float(suspects.agreement[row]) * suspects.neighbors.shape[1]),
            "asked": suspects.neighbors.shape[1],
            "neighbors": [
                {"index": int(neighbor), "given": int(label)}
                for neighbor, label in zip(listed[row], suspects.neighbor_labels[row], strict=False)
            ],
        }
        for row, index in enumerate(suspects.indices.tolist())
    ]
    return {
        "id": report_id(report),
        "classes": list(report.class_names),
        "numSamples": report.num_samples,
        "numIssues": int(report.is_issue.sum()),
        "numIssuesHere": int(suspects.is_issue.sum()),
        "lastIssue": int(np.flatnonzero(suspects.is_issue)[-1]) + 1 if suspects.is_issue.any() else 0,
        "wrongLabels": report.wrong_labels,
        "interval": list(report.wrong_labels_interval),
        "rows": rows,
        "shows": shows(suspects.indices.tolist(), listed.reshape(-1).tolist(), dataset, input_key),
        "pairs": _pairs(suspects),
        # Of all samples, and so not to be had from a part.
        "rates": _rates(report) if is_whole else None,
        "losses": loss_distribution(report) if is_whole else None,
        "duplicates": _duplicates(report),
    }


def as_json(data: dict[str, Any]) -> str:
    """Encode data for a ``script`` element: nothing in it can end the element, or start a comment."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def report_id(report: "LabelReport") -> str:
    """Return a name for a report by what is in it: decisions made on one page are not taken for another's."""
    digest = hashlib.sha256()
    for column in (report.indices, report.given_labels, report.suggested_labels, report.clean_probability):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:16]


def shows(
    suspects: list[int], neighbors: list[int], dataset: Any, input_key: Hashable = None
) -> dict[str, dict[str, str]]:
    """Return what is shown of each sample, by dataset index: ``{"image": ...}`` or ``{"text": ...}``."""
    statistics = normalization_of(dataset)
    wanted = dict.fromkeys(neighbors, NEIGHBOR_SIZE) | dict.fromkeys(suspects, SIZE)
    found: dict[str, dict[str, str]] = {}
    pictures: dict[int, Image] = {}
    tried = {index: wanted[index] for index in [*suspects[:TRIED], *neighbors[:TRIED]]}
    quality = None
    for index in [*tried, *(index for index in wanted if index not in tried)]:
        inputs = inputs_of(dataset[index], input_key)
        image = as_image(inputs, statistics)
        if image is None:
            found[str(index)] = {"text": as_text(inputs)}
        elif quality is None:
            pictures[index] = image
        else:
            found[str(index)] = {"image": data_uri(image, wanted[index], quality)}
        if quality is None and len(found) + len(pictures) >= len(tried):
            quality = _quality(pictures, wanted)
            for tried_index, picture in pictures.items():
                found[str(tried_index)] = {"image": data_uri(picture, wanted[tried_index], quality)}
    return found


def loss_distribution(report: "LabelReport") -> dict[str, Any] | None:
    """Count the issues and the other samples by their losses, in bins from 0 to the largest; None: there are none."""
    is_finite = np.isfinite(report.losses)
    if not is_finite.any():
        return None
    largest = float(report.losses[is_finite].max())
    edges = np.linspace(0, max(largest, 1e-30), BINS + 1)
    parts = {"issues": report.is_issue & is_finite, "others": ~report.is_issue & is_finite}
    counts = {name: np.histogram(report.losses[part], edges)[0].tolist() for name, part in parts.items()}
    return {**counts, "largest": float(f"{largest:.3g}")}


def _quality(pictures: "dict[int, Image]", wanted: dict[int, int]) -> int:
    """Choose the quality with which the pictures of a page are small enough, by a few of them."""
    for quality in QUALITIES:
        sizes: dict[int, list[int]] = {}
        for index, picture in pictures.items():
            sizes.setdefault(wanted[index], []).append(len(data_uri(picture, wanted[index], quality)))
        counts = Counter(wanted.values())
        if sum(counts[size] * float(np.mean(some)) for size, some in sizes.items()) <= MOST_BYTES:
            return quality
    return QUALITIES[-1]


def _pairs(report: "LabelReport") -> list[list[int]]:
    """Count the issues by given and suggested class: [given, suggested, count], the most frequent first."""
    issue = report.is_issue
    counts = Counter(zip(report.given_labels[issue].tolist(), report.suggested_labels[issue].tolist(), strict=True))
    return [[given, suggested, count] for (given, suggested), count in counts.most_common()]


def _rates(report: "LabelReport") -> list[float]:
    """Return the expected share of wrong labels among those given as each class."""
    wrong = np.bincount(report.given_labels, 1 - report.clean_probability, minlength=len(report.class_names))
    counts = np.bincount(report.given_labels, minlength=len(report.class_names))
    return [round(float(share), 4) for share in wrong / counts.clip(1)]


def _duplicates(report: "LabelReport") -> list[list[dict[str, Any]]]:
    """List the members of each group, as far as the report has rows of them."""
    rows = {index: row for row, index in enumerate(report.indices.tolist())}
    groups = [
        [
            {
                "index": index,
                "path": None if report.paths is None else report.paths[rows[index]],
                "given": int(report.given_labels[rows[index]]),
            }
            for index in group.tolist()
            if index in rows
        ]
        for group in report.duplicates
    ]
    return [group for group in groups if len(group) > 1]


def _short(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(f"{value:.4g}")
