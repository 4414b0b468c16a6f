"""What a loader knows of every sample, for its user to read."""

from abc import ABC, abstractmethod

from torch import Tensor

from mixnn_loader.run.sample_table import SampleTable


class SampleRows(ABC):
    """The per-sample rows as read-only properties, of a class that has the table."""

    @abstractmethod
    def _table_now(self) -> SampleTable:
        """Return the rows, with all that has been trained on written down."""

    @abstractmethod
    def _num_neighbors(self) -> int:
        """Return K."""

    @property
    def given_labels(self) -> Tensor:
        """(N,) int64 on the CPU, the dataset's labels; -1 where none has been seen yet. Not to be written to."""
        return self._table_now().given_labels

    @property
    def losses(self) -> Tensor:
        """(N,) float32, cross-entropy against the given labels at the last scan; NaN if that did not include it.

        With ``scan="running"`` or ``"training"``, when the sample was last drawn. It is written over: clone what you
        want to keep.
        """
        return self._table_now().losses

    @property
    def clean_probability(self) -> Tensor:
        """(N,) float32, the probability that the given label is right (Eq. 9).

        NaN before the first estimate and for samples that take no part, 0 where the loss is not finite. It can be too
        small for float32 and then is zero; the weights are made of its logarithm.
        """
        return self._table_now().log_clean_probability.exp()

    @property
    def soft_targets(self) -> Tensor:
        """(N, C) of ``target_dtype``, the targets t, corrected so far (Eq. 12). Not to be written to.

        Raises:
            RuntimeError: read before the first batch, and without ``num_classes``.
        """
        return self._table_now().soft_targets

    @property
    def neighbor_indices(self) -> Tensor:
        """(N, K) int64 on the CPU, each sample's K nearest neighbors, nearest first; -1 before the first search.

        Where a search has found fewer, and for a sample that takes no part, the rest is the sample itself.
        """
        return self._table_now().neighbor_pool[:, : self._num_neighbors()]
