"""A dataset seen with other labels, and without some of its samples: to train anew on what was found out."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mixnn_loader._utils.checks import check_choice, shown
from mixnn_loader._utils.integers import as_integers
from mixnn_loader._utils.sample_keys import LABEL_NAMES
from mixnn_loader.data.decisions import read_decisions
from mixnn_loader.data.sample_names import sample_paths


class Report(Protocol):
    """What is needed of a `mixnn_loader.report.label_report.LabelReport`."""

    @property
    def indices(self) -> npt.NDArray[np.int64]:
        """(n,), by row."""

    @property
    def given_labels(self) -> npt.NDArray[np.int64]:
        """(n,), by row."""

    @property
    def dataset_length(self) -> int:
        """N."""

    def corrected_labels(self, threshold: float = 0.5) -> npt.NDArray[np.int64]:
        """Return (N,), by dataset index; -1 for a sample that is not in the report."""


class CorrectedLabels(Dataset[Any]):
    """The samples of a map-style dataset with other labels. Nothing is copied, and no file is touched.

    Whatever a sample holds besides its label comes along. Which part that is, `from_report` and `from_csv` make sure
    of: they know the labels that the dataset is to give.

    Args:
        dataset: the samples.
        labels: N class indices, by dataset index; -1: as the dataset gives it.
        drop: dataset indices of samples to leave out, or a boolean mask of length N; None: none.
        given: N class indices, by dataset index, that the dataset gives; -1, and None: not known.
        label_key: which part of a sample is its label; None: the second, or of a mapping ``label`` or ``labels``.

    Attributes:
        dataset: the samples, all of them.
        indices: (n,) int64, the dataset index of each sample that is left, ascending.
        new_labels: (n,) int64, their labels, -1 for those as given.

    Raises:
        ValueError: there are not as many labels as samples, one is below -1, or ``drop`` names a sample that is none.
            When a sample is read: the dataset gives another label than ``given``.
        TypeError: labels or ``drop`` are not integers. When a sample is read: it has no label in that place.

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
        given: Sequence[int] | npt.ArrayLike | Tensor | None = None,
        label_key: Hashable = None,
    ) -> None:
        count = len(dataset)
        targets = _one_each("labels", labels, count)
        kept = np.ones(count, dtype=np.bool_)
        if drop is not None:
            kept[_dropped(drop, count)] = False
        self.dataset = dataset
        self.indices = np.flatnonzero(kept)
        self.new_labels = targets[kept]
        self._given = None if given is None else _one_each("given", given, count)
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
                ``keep``, ``other`` or ``unsure``); ``given``, the label that the dataset gives, and ``path``, where it
                has them and the dataset knows its files, have to be the same there. Others are passed over. Samples
                that it does not name keep their labels.
            unsure: whether samples of which the person was unsure keep their labels or are left out.
            label_key: as above.

        Raises:
            ValueError: the file has no such columns, or a row is not of that kind or of another sample than the
                dataset's; the message names its line.
        """
        check_choice("unsure", unsure, ("keep", "drop"))
        labels = np.full(len(dataset), -1, dtype=np.int64)
        given, dropped = labels.copy(), []
        for row in read_decisions(Path(file), len(dataset), sample_paths(dataset)):
            labels[row.index], given[row.index] = row.new, row.given
            if row.decision == "unsure" and unsure == "drop":
                dropped.append(row.index)
        return cls(dataset, labels, drop=np.asarray(dropped, dtype=np.int64), given=given, label_key=label_key)

    @classmethod
    def from_report(
        cls, dataset: Any, report: Report, *, threshold: float = 0.5, label_key: Hashable = None
    ) -> "CorrectedLabels":
        """Take the labels that a label report suggests, where it is sure enough.

        Args:
            dataset: the samples that the report was of.
            report: a `mixnn_loader.report.label_report.LabelReport`.
            threshold: in [0, 1]; the suggested label is taken where its probability is above it.
            label_key: as above.

        Raises:
            ValueError: the threshold is outside its range, or the dataset has another length than the report's.
        """
        if len(dataset) != report.dataset_length:
            raise ValueError(
                f"the report is of a dataset of {report.dataset_length} samples, got one of {len(dataset)}; pass the "
                "one that was trained on, loader.dataset"
            )
        given = np.full(len(dataset), -1, dtype=np.int64)
        given[report.indices] = report.given_labels
        return cls(dataset, report.corrected_labels(threshold), given=given, label_key=label_key)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, item: int) -> Any:
        if not -len(self) <= item < len(self):  # so that it can be iterated
            raise IndexError(f"index {item} is out of range for {len(self)} samples")
        return self._relabeled(self.dataset[int(self.indices[item])], item)

    def __getitems__(self, items: Sequence[int]) -> list[Any]:
        """Return samples, fetched together where the dataset can."""
        wanted = [int(self.indices[item]) for item in items]
        fetch = getattr(self.dataset, "__getitems__", None)
        samples = [self.dataset[index] for index in wanted] if fetch is None else fetch(wanted)
        return [self._relabeled(sample, item) for sample, item in zip(samples, items, strict=True)]

    def _relabeled(self, sample: Any, item: int) -> Any:
        """Put another label into a sample; -1 leaves it as it is."""
        label, key = int(self.new_labels[item]), self._place_of_label(sample)
        self._check_given(sample[key], int(self.indices[item]), key)
        if label < 0:
            return sample
        if isinstance(sample, Mapping):
            return {**sample, key: _like(sample[key], label)}
        parts = list(sample)
        parts[key] = _like(parts[key], label)
        if isinstance(sample, list):
            return parts
        return sample._make(parts) if hasattr(sample, "_make") else tuple(parts)

    def _place_of_label(self, sample: Any) -> Any:
        key = self._label_key
        if isinstance(sample, Mapping):
            if key is None:
                key = next((name for name in LABEL_NAMES if name in sample), None)
            if key not in sample:
                raise TypeError(f"the samples are mappings with the keys {list(sample)}; pass label_key=")
            return key
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
        return place

    def _check_given(self, found: Any, index: int, key: Any) -> None:
        """Check that what would be replaced is the label that is known of a sample."""
        given = -1 if self._given is None else int(self._given[index])
        if given < 0 or _is_integer(found, given):
            return
        raise ValueError(
            f"part {key!r} of sample {index} is {shown(found)}, and its given label was {given}: pass label_key=, the "
            "place or key of the label in a sample, or the dataset that these labels are of; it has to give the labels "
            "as class indices"
        )


def _is_integer(found: Any, number: int) -> bool:
    """Whether a label, of whatever kind, is this class index."""
    try:
        return bool(np.shape(found) == () and found == number)
    except (TypeError, ValueError, RuntimeError):  # it cannot be compared with a number
        return False


def _one_each(name: str, labels: Any, count: int) -> npt.NDArray[np.int64]:
    """Return class indices, one a sample, or -1."""
    targets = as_integers(name, labels)
    if targets.shape != (count,):
        raise ValueError(f"{name} must hold one class index for each of the {count} samples, got {targets.shape}")
    if (targets < -1).any():
        raise ValueError(f"{name} must be class indices or -1, got {int(targets.min())}")
    return targets


def _like(given: Any, label: int) -> Any:
    """Write a label in the kind of the given one, so that both go into one batch."""
    if isinstance(given, Tensor):
        return torch.full_like(given, label)
    return type(given)(label) if isinstance(given, np.integer) else label


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
