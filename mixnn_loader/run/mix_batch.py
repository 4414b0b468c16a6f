"""Step 4 of Algorithm 1: a loaded batch -> predictions, corrected targets, weights, mixed inputs and targets."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from mixnn_loader._utils.nested import map_tensors
from mixnn_loader._utils.random_state import derived_rng
from mixnn_loader.data.indexed import LoadedBatch
from mixnn_loader.data.labels import class_labels
from mixnn_loader.data.to_device import ReceivedBatch
from mixnn_loader.method.batch import MixNNBatch, MixNNTargets
from mixnn_loader.method.mixing import mix
from mixnn_loader.method.soft_targets import moving_average_
from mixnn_loader.method.weights import beta_weights, posterior_weights, uniform_weights
from mixnn_loader.model.predictor import ModelView, Predictions
from mixnn_loader.neighbors import nearest_in_batch, random_in_batch
from mixnn_loader.run.sample_table import SampleState
from mixnn_loader.run.scan import losses_of
from mixnn_loader.run.settings import Phase, Settings

_WEIGHT_STREAM = 2
_PAIRING_STREAM = 3
"""Set the random numbers of weights and of in-batch partners apart from the other draws of the same batch."""


@dataclass(frozen=True)
class Pairing:
    """Which rows of a loaded batch are whose neighbors.

    Attributes:
        found: (B, K) bool, False for a neighbor that does not exist.
        positions: (B, K) int64, the neighbors' places among the B originals; None where the neighbors were loaded
            behind the originals, those of one original next to each other.
    """

    found: Tensor
    positions: Tensor | None

    def own(self, tensor: Tensor) -> Tensor:
        """Return the rows of the originals, (B, ...)."""
        return tensor[: len(self.found)]

    def partners(self, tensor: Tensor) -> Tensor:
        """Return the rows of the neighbors, (B, K, ...)."""
        if self.positions is not None:
            return tensor[self.positions]
        return tensor[len(self.found) :].reshape(*self.found.shape, *tensor.shape[1:])


class BatchMixer:
    """Turns what the workers loaded into what the training loop gets.

    Args:
        settings: the hyper-parameters.
        view: the model.
        state: the per-sample state; its labels, losses and soft targets are updated.
    """

    def __init__(self, settings: Settings, view: ModelView, state: SampleState) -> None:
        self._settings = settings
        self._view = view
        self._state = state
        self._epoch = 0
        self._model_checked = False
        self.pairs = torch.zeros(2)
        """(sample, neighbor) pairs of this epoch: those with the same given label, and all."""

    def begin_epoch(self, epoch: int, pairs: Tensor | None = None) -> None:
        """Set the epoch, which selects the phase and the random draws.

        Args:
            epoch: its number.
            pairs: what `pairs` was where an epoch is resumed.
        """
        self._epoch = epoch
        self.pairs = torch.zeros(2, device=self._view.device) if pairs is None else pairs.to(self._view.device)

    def same_label_share(self) -> float | None:
        """Return the share of this epoch's (sample, neighbor) pairs with the same given label."""
        same, total = self.pairs.tolist()
        return same / total if total > 0 else None

    def mix(self, received: ReceivedBatch) -> MixNNBatch:
        """Mix one batch (Algorithm 1, steps 4a to 4e).

        Raises:
            ValueError: a label is no class index or has changed.
        """
        phase = self._settings.phase(self._epoch)
        loaded, inputs, rows = received.loaded, received.inputs, received.rows
        labels = self._checked_labels(received)
        self._state.note_drawn(loaded.indices)
        if phase == "warm-up":
            return self._unmixed(inputs, rows, labels)

        own_inputs = map_tensors(lambda tensor: tensor[: len(loaded.indices)], inputs)
        predictions = self._predict(own_inputs, phase)
        if predictions is not None and self._settings.scan == "running":
            self._record(predictions, loaded.indices, labels)
        soft_targets = self._state.known_targets()
        if phase == "correction" and predictions is not None:
            probabilities = predictions.logits.softmax(dim=1)
            moving_average_(soft_targets, loaded.indices, probabilities, self._settings.momentum)

        pairing = self._pair(loaded, rows, predictions)
        neighbors = pairing.partners(rows)
        members = torch.cat([pairing.own(rows).unsqueeze(1), neighbors], dim=1)
        weights = self._weigh(members, pairing.found, loaded.number)
        if self._settings.num_neighbors > 0:
            inputs = map_tensors(lambda tensor: mix(pairing.own(tensor), pairing.partners(tensor), weights), inputs)
        self._count(pairing, labels, pairing.own(rows), neighbors)
        targets = MixNNTargets(
            _rows_beside(soft_targets, members).float(), weights, pairing.own(labels), pairing.own(rows), neighbors
        )
        return MixNNBatch(inputs, targets)

    def _checked_labels(self, received: ReceivedBatch) -> Tensor:
        """Check and record the given labels of the samples and their neighbors, (B·(K+1),) on the device."""
        loaded = received.loaded
        if not self._model_checked:
            self._check_model(map_tensors(lambda tensor: tensor[: len(loaded.indices)], received.inputs))
        labels = class_labels(received.labels, loaded.rows, self._state.known_targets().shape[1])
        self._state.record_labels(loaded.rows, labels)
        return labels.to(received.rows.device, non_blocking=True)

    def _unmixed(self, inputs: Any, rows: Tensor, labels: Tensor) -> MixNNBatch:
        targets = self._state.known_targets()
        # functional.one_hot would wait for the device, to check labels that have been checked.
        one_hot = torch.zeros(len(rows), targets.shape[1], device=rows.device).scatter_(1, labels.unsqueeze(1), 1)
        weights = torch.ones(len(rows), 1, device=rows.device)
        return MixNNBatch(
            inputs, MixNNTargets(one_hot.unsqueeze(1), weights, labels, rows, rows.new_empty(len(rows), 0))
        )

    def _predict(self, inputs: Any, phase: Phase) -> Predictions | None:
        """Step 4a, only where something is made of it."""
        settings = self._settings
        pairs_nearest = settings.pairs_in_batch and settings.needs_representations
        need_representations = pairs_nearest or settings.keeps_representations
        if phase != "correction" and settings.scan != "running" and not need_representations:
            return None
        with record_function("mixnn_loader.predict"):
            return self._view.predict(inputs, need_representations=need_representations)

    def _record(self, predictions: Predictions, indices: Tensor, labels: Tensor) -> None:
        """Keep what step 4a saw, in place of the next epoch's scan."""
        representations = predictions.representations if self._settings.keeps_representations else None
        self._state.record_predictions(indices, losses_of(predictions, labels[: len(indices)]), representations)

    def _pair(self, loaded: LoadedBatch, rows: Tensor, predictions: Predictions | None) -> Pairing:
        if not self._settings.pairs_in_batch:
            return Pairing(torch.ones_like(loaded.neighbors, dtype=torch.bool, device=rows.device), None)
        k = self._settings.num_neighbors
        if predictions is not None and predictions.representations is not None:
            positions, found = nearest_in_batch(predictions.representations, rows, k)
        else:
            rng = derived_rng(self._settings.seed, self._epoch, loaded.number, _PAIRING_STREAM)
            scores = torch.from_numpy(rng.random((len(rows), len(rows)), dtype=np.float32)).to(rows.device)
            positions, found = random_in_batch(rows, k, scores)
        return Pairing(found, positions)

    def _weigh(self, members: Tensor, found: Tensor, batch_number: int) -> Tensor:
        match self._settings.weighting:
            case "mixture":
                # A sample that was not scanned counts as surely wrong; it is its own neighbor.
                log_posteriors = _rows_beside(self._state.log_clean_probability, members)
                return posterior_weights(log_posteriors.nan_to_num(nan=-torch.inf, neginf=-torch.inf), found)
            case "uniform":
                return uniform_weights(found)
            case "beta":
                rng = derived_rng(self._settings.seed, self._epoch, batch_number, _WEIGHT_STREAM)
                own_weights = torch.from_numpy(rng.random(len(members), dtype=np.float32))
                return beta_weights(own_weights.to(members.device), found)

    def _count(self, pairing: Pairing, labels: Tensor, rows: Tensor, neighbors: Tensor) -> None:
        others = pairing.found & (neighbors != rows.unsqueeze(1))
        same = (pairing.partners(labels) == pairing.own(labels).unsqueeze(1)) & others
        self.pairs += torch.stack([same.sum(), others.sum()])

    def _check_model(self, inputs: Any) -> None:
        """Ask the model once, on the first batch: what is wrong with it shows now rather than after warm-up."""
        predictions = self._view.predict(inputs, need_representations=self._settings.needs_representations)
        self._state.to(self._view.device)
        self._state.set_num_classes(predictions.logits.shape[1])
        self._model_checked = True


def _rows_beside(values: Tensor, indices: Tensor) -> Tensor:
    """Return ``values[indices]`` on the device of ``indices``: of values kept elsewhere, only these rows travel."""
    return values[indices.to(values.device)].to(indices.device, non_blocking=True)
