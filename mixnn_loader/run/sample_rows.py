"""What a loader knows of every sample, for its user to read."""

from torch import Tensor

from mixnn_loader.run.sample_table import SampleState
from mixnn_loader.run.settings import Settings


class SampleRows:
    """The per-sample rows as read-only properties.

    Args:
        settings: the hyper-parameters.
        state: the rows.
    """

    def __init__(self, settings: Settings, state: SampleState) -> None:
        self._settings = settings
        self._state = state

    @property
    def given_labels(self) -> Tensor:
        """(N,) int64 on the CPU, the dataset's labels; -1 where none has been seen yet. Not to be written to."""
        return self._state.given_labels

    @property
    def losses(self) -> Tensor:
        """(N,) float32, cross-entropy against the given labels at the last scan; NaN if that did not include it.

        With ``scan="running"``, when the sample was last drawn. It is written over: clone what you want to keep.
        """
        return self._state.losses

    @property
    def clean_probability(self) -> Tensor:
        """(N,) float32, the probability that the given label is right (Eq. 9); NaN where there is no loss to tell.

        It can be too small for float32 and then is zero; the weights are made of its logarithm.
        """
        return self._state.log_clean_probability.exp()

    @property
    def soft_targets(self) -> Tensor:
        """(N, C) of ``target_dtype``, the targets t, corrected so far (Eq. 12). Not to be written to.

        Raises:
            RuntimeError: read before the first batch, and without ``num_classes``.
        """
        return self._state.known_targets()

    @property
    def neighbor_indices(self) -> Tensor:
        """(N, K) int64 on the CPU, each sample's K nearest neighbors, nearest first; -1 where no search was made."""
        return self._state.neighbor_pool[:, : self._settings.num_neighbors]
