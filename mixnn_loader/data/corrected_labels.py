"""A dataset seen with other labels, and without some of its samples: to train anew on what was found out."""

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mixnn_loader._utils.checks import check_choice
from mixnn_loader._utils.csv_rows import csv_rows
from mixnn_loader._utils.integers import as_integers
from mixnn_loader._utils.sample_keys import LABEL_NAMES
from mixnn_loader.data.sample_names import sample_paths

DECISIONS = ("accept", "keep", "other", "unsure")
"""What a person has made of a suspect: the suggested label, the given one, another one, or nothing."""

_NO_TEXT = re.compile("[\ud800-\udfff]")
"""Bytes of a file's name that are no UTF-8, as Python has them."""


class CorrectedLabels(Dataset[Any]):
    """The samples of a map-style dataset with other labels. Nothing is copied, and no file is touched.

    Whatever a sample holds besides its label comes along: the label is the second part of a sample, or its key
    ``label`` or ``labels``.

    Args:
        dataset: the samples.
        labels: N class indices, by dataset index; -1: as the dataset gives it.
        drop: dataset indices of samples to leave out, or a boolean mask of length N; None: none.
        label_key: which part of a sample is its label; None: see above.

    Attributes:
        dataset: the samples, all of them.
        indices: (n,) int64, the dataset index of each sample that is left, ascending.
        new_labels: (n,) int64, their labels, -1 for those as given.

    Raises:
        ValueError: there are not as many labels as samples, one is below -1, or ``drop`` names a sample that is none.
        TypeError: labels or ``drop`` are not integers.

    Example:
        >>> dataset = [("a", 0), ("b", 0), ("c", 1)]
        >>> list(CorrectedLabels(dataset, [-1, 1, 1], drop=[2]))
        [('a', 0), ('b', 1)]
    """

    def __init__(
        self,
        dataset: Any,
        labels: Sequence[int] | npt.ArrayLike | Tensor,
        *,
        drop: Sequence[int] | npt.ArrayLike | Tensor | None = None,
        label_key: Hashable = None,
    ) -> None:
        count = len(dataset)
        targets = as_integers("labels", labels)
        if targets.shape != (count,):
            raise ValueError(f"labels must hold one class index for each of the {count} samples, got {targets.shape}")
        if (targets < -1).any():
            raise ValueError(f"labels must be class indices or -1, got {int(targets.min())}")
        kept = np.ones(count, dtype=np.bool_)
        if drop is not None:
            kept[_dropped(drop, count)] = False
        self.dataset = dataset
        self.indices = np.flatnonzero(kept)
        self.new_labels = targets[kept]
        self._label_key = label_key

    @classmethod
    def from_csv(
        cls,
        dataset: Any,
        file: str | Path,
        *,
        unsure: Literal["keep", "drop"] = "keep",
        label_key: Hashable = None,
    ) -> "CorrectedLabels":
        """Take labels from the decisions that were made on the page of a label report.

        Args:
            dataset: the samples that the report was of.
            file: CSV with the columns ``index`` (dataset index), ``new`` (class index) and ``decision`` (``accept``,
                ``keep``, ``other`` or ``unsure``). Where it has a ``path``, and the dataset knows its files, they have
                to be the same; others are passed over. Samples that it does not name keep their labels.
            unsure: whether samples of which the person was unsure keep their labels or are left out.
            label_key: as above.

        Raises:
            ValueError: the file has no such columns, or a row is not of that kind or of another sample than the
                dataset's; the message names its line.
        """
        check_choice("unsure", unsure, ("keep", "drop"))
        labels = np.full(len(dataset), -1, dtype=np.int64)
        dropped = []
        for index, decision, new in _decisions(Path(file), len(dataset), sample_paths(dataset)):
            if decision in ("accept", "other"):
                labels[index] = new
            elif decision == "unsure" and unsure == "drop":
                dropped.append(index)
        return cls(dataset, labels, drop=np.asarray(dropped, dtype=np.int64), label_key=label_key)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, item: int) -> Any:
        if not -len(self) <= item < len(self):  # so that it can be iterated
            raise IndexError(f"index {item} is out of range for {len(self)} samples")
        return self._relabeled(self.dataset[int(self.indices[item])], int(self.new_labels[item]))

    def __getitems__(self, items: Sequence[int]) -> list[Any]:
        """Return samples, fetched together where the dataset can."""
        wanted = [int(self.indices[item]) for item in items]
        fetch = getattr(self.dataset, "__getitems__", None)
        samples = [self.dataset[index] for index in wanted] if fetch is None else fetch(wanted)
        return [
            self._relabeled(sample, int(self.new_labels[item])) for sample, item in zip(samples, items, strict=True)
        ]

    def _relabeled(self, sample: Any, label: int) -> Any:
        """Put another label into a sample; -1 leaves it as it is."""
        key = self._label_key
        if isinstance(sample, Mapping):
            if key is None:
                key = next((name for name in LABEL_NAMES if name in sample), None)
            if key not in sample:
                raise TypeError(f"the samples are mappings with the keys {list(sample)}; pass label_key=")
            return sample if label < 0 else {**sample, key: _like(sample[key], label)}
        place = 1 if key is None else key
        if (
            not isinstance(sample, (tuple, list))
            or not isinstance(place, int)
            or not -len(sample) <= place < len(sample)
        ):
            raise TypeError(
                f"a sample must be a tuple, list or mapping with a label in it, got {type(sample).__name__}; pass "
                "label_key=, the place or key of the label"
            )
        if label < 0:
            return sample
        parts = list(sample)
        parts[place] = _like(parts[place], label)
        if isinstance(sample, list):
            return parts
        return sample._make(parts) if hasattr(sample, "_make") else tuple(parts)


def _like(given: Any, label: int) -> Any:
    """Write a label in the kind of the given one, so that both go into one batch."""
    if isinstance(given, Tensor):
        return torch.full_like(given, label)
    return type(given)(label) if isinstance(given, np.integer) else label


def _decisions(file: Path, count: int, paths: list[str] | None) -> list[tuple[int, str, int]]:
    """Read a file of decisions: the dataset index, the decision and the new label of each row."""
    found: dict[int, tuple[int, str, int]] = {}
    for line, row in csv_rows(file, ("index", "new", "decision")):
        where, decision = f"{file}, line {line}", row["decision"]
        if decision not in DECISIONS:
            raise ValueError(f"{where}: decision must be one of {', '.join(DECISIONS)}, got {decision!r}")
        changes = decision in ("accept", "other")
        try:
            index, new = int(row["index"] or ""), int(row["new"] or "") if changes else -1
        except ValueError as error:
            raise ValueError(
                f"{where}: index and new must be integers, got {row['index']!r} and {row['new']!r}"
            ) from error
        if not 0 <= index < count or (changes and new < 0):
            raise ValueError(f"{where}: no index of the {count} samples or no class index: {index} and {new}")
        path = row.get("path")
        if path and paths is not None and not _same_file(path, paths[index]):
            raise ValueError(f"{where}: sample {index} is {paths[index]} in the dataset, and {path} in the file")
        if index in found:
            raise ValueError(f"{where}: there are two decisions for index {index}")
        found[index] = (index, decision, new)
    return list(found.values())


def _same_file(one: str, other: str) -> bool:
    """Whether two paths may be of one file, relative to different folders.

    What is no text in a name, a browser writes as the replacement character.
    """
    ends = [PurePath(_NO_TEXT.sub("\ufffd", path)).parts[::-1] for path in (one, other)]
    return all(mine == theirs for mine, theirs in zip(*ends, strict=False))


def _dropped(drop: Any, count: int) -> npt.NDArray[np.int64]:
    """Return the dataset indices to leave out."""
    array = drop.detach().cpu().numpy() if isinstance(drop, torch.Tensor) else np.asarray(drop)
    if array.dtype == np.bool_:
        if array.shape != (count,):
            raise ValueError(f"drop must be a mask of length {count}, or indices, got a mask of shape {array.shape}")
        return np.flatnonzero(array)
    indices = as_integers("drop", array).reshape(-1)
    if ((indices < 0) | (indices >= count)).any():
        wrong = indices[(indices < 0) | (indices >= count)][0]
        raise ValueError(f"drop must hold dataset indices in 0..{count - 1}, got {wrong}")
    return indices
