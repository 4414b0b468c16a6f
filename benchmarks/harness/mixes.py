"""Who was mixed with whom: seen from outside of the method, with the true labels that it does not know."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.metrics import Figures
from mixnn_loader import MixNNBatch


class MixesSeen:
    """Counts the mixes of an epoch.

    Args:
        true: (N,) true labels, on the device of the batches: to fetch a batch from a GPU would make each step wait.
        given: (N,) given labels, there as well.
    """

    def __init__(self, true: Tensor, given: Tensor) -> None:
        self._true, self._wrong = true, true != given
        self._counts = torch.zeros(4, dtype=torch.float64, device=true.device)

    def observe(self, batch: Any) -> None:
        """Count the mixes of a batch; of one that is not mixed with neighbors, nothing."""
        if not isinstance(batch, MixNNBatch) or batch.targets.neighbors.shape[1] == 0:
            return
        groups = batch.targets.groups
        own, others = groups[:, :1], groups[:, 1:]
        real = own != others
        same = (self._true[own] == self._true[others]) & real
        all_wrong = self._wrong[groups].all(dim=1)
        counts = [same.sum(), real.sum(), all_wrong.sum(), torch.ones_like(all_wrong).sum()]
        self._counts += torch.stack(counts)

    def figures(self) -> Figures:
        """Return what was seen, in percent, and start anew.

        Returns:
            ``same_class``: neighbors whose true class is the sample's; ``worst_case``: mixes in which every label is
            wrong, so that no weights can help. None where nothing was mixed.
        """
        same, pairs, all_wrong, mixes = self._counts.tolist()
        self._counts.zero_()
        return {
            "same_class": 100 * same / pairs if pairs else None,
            "worst_case": 100 * all_wrong / mixes if mixes else None,
        }
