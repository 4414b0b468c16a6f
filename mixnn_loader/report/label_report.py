"""What a training has found out about the labels of its data: one row a sample, the most suspicious first."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mixnn_loader._utils.checks import check_count
from mixnn_loader.report import exports
from mixnn_loader.report.html import check_installed, write_html
from mixnn_loader.report.page_data import page_data

if TYPE_CHECKING:
    import pandas as pd

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LabelReport:
    """Which labels look wrong, what they should be, and why.

    A row is a sample. Rows are sorted by suspicion: by P(clean), before it is rounded. Probabilities are of
    two opinions combined, what the neighbors' labels say and what the model predicts. A label that the model has gone
    for in training is doubted less than others, and hardly more wrong labels are expected than by the neighbors' votes,
    where these say anything and labels are to blame for what their agreement lacks; see `mixnn_loader.method.judgment`.

    Attributes:
        indices: (n,) int64, the sample's row in the dataset.
        given_labels: (n,) int64, the label that the dataset gives.
        suggested_labels: (n,) int64, the likeliest class; the given one where no other is likelier.
        clean_probability: (n,) float32 in [0, 1], P(clean), the probability that the given label is right.
        readings: (n, 3) float32 in [0, 1], P(clean) by one opinion alone: by the neighbors', where it is the votes that
            err when they do not agree; by theirs, where it is the labels (see
            `mixnn_loader.functional.label_posterior`); and by the model's.
        confidence: (n,) float32 in [0, 1], the probability of the suggested label.
        losses: (n,) float32, cross-entropy of the model's prediction against the given label, in nats.
        wrong_event_share: (n,) float32 in [0, 1], of the times that the model was asked about the sample in training,
            the share in which it predicted another class than the given one; NaN where it was never asked.
        label_probability: (n,) float32 in [0, 1], the mean probability, over these times, of the given label.
        neighbors: (n, k) int64, dataset indices of the k samples that look most alike to the model, nearest first.
        neighbor_labels: (n, k) int64, the labels that are given to them.
        agreement: (n,) float32 in [0, 1], the share of them whose given label is the suggested one.
        class_names: of each class, in the order of the labels.
        paths: (n,) the sample's file, relative to the dataset's root; None where the dataset knows no files.
        transition: (C, C) float32, how often a true class (row) was given as a class (column), rows summing to one: an
            estimate from the samples whose neighbors agree most, a few of each class where there are few.
        num_samples: the samples that were looked at; more than n in a part of a report.
        wrong_labels: the expected number of wrong labels among these.
        wrong_labels_interval: the least and the most that it is, by one of the `readings` or by the report.
        dataset_length: N, of the dataset; more than ``num_samples`` where some are no training data.
        duplicates: groups of dataset indices of samples that are the same or nearly so, and have different labels.
        representations: (n, d) float32, rows of length one, what the neighbors were found by; None where not asked for.
    """

    indices: Integers
    given_labels: Integers
    suggested_labels: Integers
    clean_probability: Floats
    readings: Floats
    confidence: Floats
    losses: Floats
    wrong_event_share: Floats
    label_probability: Floats
    neighbors: Integers
    neighbor_labels: Integers
    agreement: Floats
    class_names: Sequence[str]
    paths: Sequence[str] | None
    transition: Floats
    num_samples: int
    dataset_length: int
    wrong_labels: float
    wrong_labels_interval: tuple[float, float]
    duplicates: Sequence[Integers]
    representations: Floats | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.indices)

    def __repr__(self) -> str:
        """Say how many labels look wrong."""
        low, high = self.wrong_labels_interval
        expected = f"about {self.wrong_labels:.0f} ({low:.0f} to {high:.0f}) wrong labels"
        return f"LabelReport({len(self)} of {self.num_samples} samples, {expected}, {int(self.is_issue.sum())} issues)"

    @property
    def is_issue(self) -> npt.NDArray[np.bool_]:
        """(n,) bool, the labels worth a look: another class is likelier than the given one."""
        differs: npt.NDArray[np.bool_] = self.suggested_labels != self.given_labels
        return differs

    @property
    def noise_rate(self) -> float:
        """The expected share of wrong labels among all samples, in [0, 1]."""
        return self.wrong_labels / max(self.num_samples, 1)

    def named(self, *, class_names: Sequence[str], paths: Sequence[str] | None) -> "LabelReport":
        """Return the report with other names of classes, and files of the rows, where the dataset knows none."""
        return replace(self, class_names=as_class_names(class_names, len(self.transition)), paths=paths)

    def issues(self) -> "LabelReport":
        """Return the labels worth a look: those of samples for which another class is likelier than the given one.

        There is nothing to tune. To see more or fewer, slice: ``report[:100]`` are the hundred most suspicious, and
        `expected_precision` and `expected_precision_interval` say how many of them are expected to be wrong.
        """
        return self[self.is_issue]

    def __getitem__(self, rows: "slice | npt.ArrayLike") -> "LabelReport":
        """Return some of the rows; numbers of all samples, such as `wrong_labels`, stay as they are.

        Args:
            rows: a slice, row numbers, or a boolean mask (n,). The row of a dataset index is ``report.row_of(index)``.
        """
        chosen = rows if isinstance(rows, slice) else np.atleast_1d(np.asarray(rows))
        if isinstance(chosen, np.ndarray) and chosen.size == 0 and chosen.dtype != np.bool_:
            chosen = chosen.astype(np.int64)  # of an empty list
        paths = None
        if self.paths is not None:
            paths = [self.paths[row] for row in np.arange(len(self))[chosen]]
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        some = {name: value[chosen] for name, value in values.items() if name in _OF_A_SAMPLE}
        kept = None if self.representations is None else self.representations[chosen]
        return LabelReport(**{**values, **some, "paths": paths, "representations": kept})

    def row_of(self, index: int) -> int:
        """Return the row of a dataset index.

        Raises:
            KeyError: the report has no such sample.
        """
        rows = np.flatnonzero(self.indices == index)
        if len(rows) == 0:
            raise KeyError(f"the report has no sample with dataset index {index}")
        return int(rows[0])

    def expected_precision(self, top: int) -> float:
        """Return the expected share of wrong labels among the most suspicious ``top`` rows: the mean of 1 - P(clean).

        Raises:
            ValueError: ``top`` is not in 1..n.
        """
        self._check_top(top)
        return float((1 - self.clean_probability[:top].astype(np.float64)).mean())

    def expected_precision_interval(self, top: int) -> tuple[float, float]:
        """Return the least and the most that `expected_precision` is, by one of the `readings` or by the report.

        Where classes overlap, a label that is only unlikely counts as a wrong one: fewer may be wrong than the least.

        Raises:
            ValueError: ``top`` is not in 1..n.
        """
        self._check_top(top)
        wrong = 1 - self.readings[:top].astype(np.float64).mean(axis=0)
        either = [*wrong.tolist(), self.expected_precision(top)]
        return min(either), max(either)

    def _check_top(self, top: int) -> None:
        if not 1 <= top <= len(self):
            raise ValueError(f"top must be in 1..{len(self)}, the report's rows, got {top}")

    def corrected_labels(self, threshold: float = 0.5) -> Integers:
        """Return the labels of the dataset after correction, by dataset index.

        Args:
            threshold: in [0, 1]; the suggested label is taken where its probability is above it.

        Returns:
            (N,) int64, N the dataset's length; -1 for a sample that is not in the report.

        Raises:
            ValueError: the threshold is outside its range.
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold}")
        labels = np.full(self.dataset_length, -1, dtype=np.int64)
        labels[self.indices] = np.where(self.confidence > threshold, self.suggested_labels, self.given_labels)
        return labels

    def to_html(
        self,
        path: str | Path,
        dataset: Any,
        *,
        top: int = 1000,
        neighbors: int = 6,
        input_key: Hashable = None,
        title: str = "Which labels are wrong?",
    ) -> None:
        """Write a page with the most suspicious samples, to look at and to decide upon.

        It is one file, which opens from disk in any browser and asks nothing of any server. Images are shown as small
        pictures, texts and rows of numbers as such. What the person decides is kept in the browser, and exported as a
        CSV file that `mixnn_loader.CorrectedLabels` reads.

        Args:
            path: the file.
            dataset: gives the samples by the report's indices, or a mapping of those shown; best without random
                transforms. A normalization among its transforms is undone.
            top: how many suspects; pictures of a thousand take some megabytes.
            neighbors: how many neighbors of each are shown.
            input_key: which part of a sample is shown; None: the first of a pair, of a mapping its image or text.
            title: of the page.

        Raises:
            ImportError: Jinja2 is not installed (``pip install 'mixnn_loader[report]'``).
            ValueError: ``top`` or ``neighbors`` is outside its range, the report has no rows, or the dataset is not as
                long as the report's.
        """
        check_count("top", top, 1)
        check_count("neighbors", neighbors)
        if len(self) == 0:
            raise ValueError("the report has no rows: there is nothing to show")
        has_all = hasattr(dataset, "__len__") and not isinstance(dataset, Mapping)
        if has_all and len(dataset) != self.dataset_length:
            raise ValueError(
                f"the report is of a dataset of {self.dataset_length} samples, got one of {len(dataset)}; pass the one "
                "that was trained on, loader.dataset"
            )
        check_installed()
        data = page_data(self, dataset, top=top, neighbors=neighbors, input_key=input_key)
        write_html(data, Path(path), title)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table of the rows; see `mixnn_loader.report.exports.columns` for its columns.

        Raises:
            ImportError: pandas is not installed.
        """
        return exports.to_pandas(self)

    def to_cleanlab(self) -> "pd.DataFrame":
        """Return a table as cleanlab's ``Datalab.get_issues("label")`` gives it, by dataset index.

        Its columns are ``is_label_issue``, ``label_score`` (P(clean)), ``given_label`` and ``predicted_label``.

        Raises:
            ImportError: pandas is not installed.
        """
        return exports.to_cleanlab(self)

    def to_csv(self, path: str | Path) -> None:
        """Write the rows as a CSV file, with the columns of `to_pandas`."""
        exports.to_csv(self, Path(path))

    def to_json(self, path: str | Path) -> None:
        """Write the rows, and the numbers of all samples, as a JSON file."""
        exports.to_json(self, Path(path))

    def to_label_studio(self, path: str | Path, *, prefix: str = "") -> None:
        """Write the rows as tasks for Label Studio, each with the suggested label as a prediction.

        The labeling interface needs an ``<Image name="image" value="$image"/>`` and ``<Choices name="label"
        toName="image">`` with the class names. Tasks hold the path of a sample, quoted for an address, or its index.

        Args:
            path: the file.
            prefix: what stands before the path of a sample, such as ``"/data/local-files/?d=photos/"``.
        """
        exports.to_label_studio(self, Path(path), prefix)


_OF_A_SAMPLE = frozenset(
    {
        "indices",
        "given_labels",
        "suggested_labels",
        "clean_probability",
        "readings",
        "confidence",
        "losses",
        "wrong_event_share",
        "label_probability",
        "neighbors",
        "neighbor_labels",
        "agreement",
    }
)
"""Attributes with a row a sample."""


def as_class_names(names: Sequence[Any] | None, num_classes: int) -> list[str]:
    """Return a name for each class: those that there are, and else the number."""
    known = [] if names is None else [str(name) for name in names][:num_classes]
    return known + [str(number) for number in range(len(known), num_classes)]
