"""What figures need of single samples: labels, losses, and representations of some, in a file beside the results."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Subset

from benchmarks.harness.data import Data
from benchmarks.harness.metrics import probabilities_of
from benchmarks.harness.networks import Network
from benchmarks.harness.protocol import Method
from benchmarks.harness.task import Task

SHOWN = 600
"""Representations are kept of so many samples: more would only cover each other in a picture."""


class Samples(NamedTuple):
    """What was kept of a run.

    Attributes:
        true: (N,) labels.
        given: (N,) labels.
        corrected: (N,) labels that the method has come to, or those given where it corrects none.
        epochs: (E,) those after which a look was taken: the last one of warm-up, and the last one.
        losses: (E, N) cross-entropy of the method's prediction against the given label.
        shown: (n,) indices of the samples whose representations were kept.
        representations: (E, n, d) of the method's first network; d is 0 where it has none.
    """

    true: npt.NDArray[np.int64]
    given: npt.NDArray[np.int64]
    corrected: npt.NDArray[np.int64]
    epochs: npt.NDArray[np.int64]
    losses: npt.NDArray[np.float32]
    shown: npt.NDArray[np.int64]
    representations: npt.NDArray[np.float32]


class SamplesKept:
    """Takes a look at the samples after some epochs.

    Args:
        method: what is trained.
        task: what it is given.
        data: the dataset, with true labels.
        given: (N,) labels that it is trained on.
    """

    def __init__(self, method: Method, task: Task, data: Data, given: Tensor) -> None:
        self._method, self._device, self._data, self._given = method, task.device, data, given
        # Drawn, not the first ones: a dataset may be in the order of its classes.
        order = torch.randperm(len(given), generator=torch.Generator().manual_seed(0))
        self._shown = order[:SHOWN].sort().values
        self._epochs = {task.warmup_epochs - 1, method.num_epochs - 1}
        self._looks: dict[int, tuple[Tensor, Tensor]] = {}

    def look(self, epoch: int, probabilities: Tensor) -> None:
        """Keep what the samples are like after an epoch, if it is one of those that are shown.

        Args:
            epoch: counted from 0.
            probabilities: (N, C) that the method predicts, without augmentation.
        """
        if epoch not in self._epochs:
            return
        likelihood = probabilities.gather(1, self._given.unsqueeze(1)).squeeze(1)
        network = next((part for part in self._method.modules() if isinstance(part, Network)), None)
        representations = torch.empty(len(self._shown), 0)
        if network is not None:
            data = Subset(self._data.scan, self._shown.tolist())
            representations = probabilities_of(network.represent, data, self._device)
        self._looks[epoch] = -likelihood.clamp(min=1e-12).log(), representations

    def state(self) -> dict[int, tuple[Tensor, Tensor]]:
        """Return what was kept so far, for a checkpoint."""
        return self._looks

    def load(self, state: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        """Take over what `state` returned."""
        self._looks = dict(state)

    def write(self, path: Path) -> None:
        """Write what was kept, see `Samples`."""
        corrected = self._method.corrected_labels()
        losses, representations = zip(*self._looks.values(), strict=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            path,
            true=self._data.labels.numpy(),
            given=self._given.numpy(),
            corrected=(self._given if corrected is None else corrected.cpu()).numpy(),
            epochs=np.array(list(self._looks)),
            losses=torch.stack(losses).numpy(),
            shown=self._shown.numpy(),
            representations=torch.stack(representations).numpy(),
        )


def read_samples(path: Path) -> Samples:
    """Read what `SamplesKept.write` wrote."""
    with np.load(path) as arrays:
        return Samples(**{name: arrays[name] for name in Samples._fields})
