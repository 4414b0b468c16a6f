"""Step 4 of Algorithm 1: a loaded batch -> predictions, corrected targets, weights, mixed inputs and targets."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from mixnn_loader._utils.batch_indices import BatchIndices
from mixnn_loader._utils.nested import map_tensors
from mixnn_loader._utils.random_state import Stream, derived_rng
from mixnn_loader._utils.transfer import to_device
from mixnn_loader.data.indexed import in_loaded_order
from mixnn_loader.data.labels import class_labels
from mixnn_loader.data.to_device import ReceivedBatch
from mixnn_loader.method.batch import MixNNBatch
from mixnn_loader.method.early_learning import EarlyLearning, prediction
from mixnn_loader.method.input_rules import InputRules
from mixnn_loader.method.receipt import Journal, Receipt
from mixnn_loader.method.soft_targets import mean_over_repeats, moving_average, places_in_batch
from mixnn_loader.method.targets import MixNNTargets
from mixnn_loader.model.mix_layer import RowMix
from mixnn_loader.model.predictor import ModelView, Predictions
from mixnn_loader.run.answers import checked_pairs, checked_weights
from mixnn_loader.run.pairing import Pairing
from mixnn_loader.run.place import Place
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.scan import judged
from mixnn_loader.run.settings import Settings
from mixnn_loader.run.training_step import LEAST_SHARE, TrainingStep
from mixnn_loader.run.update import Update


class BatchMixer:
    """Turns what the workers loaded into what the training loop gets. It writes nothing down.

    Args:
        settings: the hyper-parameters.
        view: the model.
        table: the per-sample rows.
        journal: makes the receipts of the batches.
        rules: how the inputs are mixed.
    """

    def __init__(
        self, settings: Settings, view: ModelView, table: SampleTable, journal: Journal, rules: InputRules
    ) -> None:
        self._settings = settings
        self._view = view
        self._table = table
        self._journal = journal
        self._rules = rules

    def plain(self, received: ReceivedBatch) -> MixNNBatch:
        """Return a batch as it comes, with one-hot targets of weight one, of which the loss says that it is plain.

        Raises:
            ValueError: a label is no class index or has changed.
        """
        labels, _ = self._checked_labels(received, in_loaded_order(received.loaded.groups))
        inputs, targets = self._unmixed(received, labels, self._journal.receipt(plain=True))
        return MixNNBatch(inputs, targets, *received.extras)

    def mix(self, received: ReceivedBatch, place: Place) -> tuple[MixNNBatch, Update]:
        """Mix one batch (Algorithm 1, steps 4a to 4e), or leave it as it comes during warm-up.

        Args:
            received: the batch, on the model's device.
            place: where in the run it is.

        Returns:
            The batch, and what it changes once it has been trained on.

        Raises:
            ValueError: a label is no class index or has changed.
        """
        labeled = in_loaded_order(received.loaded.groups)
        labels, are_known = self._checked_labels(received, labeled)
        indices, receipt = received.batch_indices(), self._journal.receipt()
        changes: dict[str, Any] = {}
        if place.phase == "warm-up":
            batch = self._unmixed(received, labels, receipt, self._early_learning(received.groups[:, :1]))
            changes["step"] = self._step(place)
            if self._rules.has_layer and self._settings.num_neighbors > 0:
                # Nothing is mixed yet; but whether the layer knows the batch shows now, and not after the warm-up.
                changes["row_mix"] = RowMix(len(indices), _as_they_are)
        else:
            batch, changes = self._mixed(received, indices, labels, receipt, place, are_known=are_known)
        update = Update(
            number=received.loaded.number,
            receipt=receipt,
            indices=indices,
            labeled=labeled,
            labels=labels,
            **changes,
        )
        return MixNNBatch(*batch, *received.extras), update

    def _mixed(
        self,
        received: ReceivedBatch,
        indices: BatchIndices,
        labels: Tensor,
        receipt: Receipt,
        place: Place,
        *,
        are_known: bool,
    ) -> tuple[MixNNBatch, dict[str, Any]]:
        settings, loaded = self._settings, received.loaded.groups
        own_inputs = map_tensors(lambda rows: rows[: len(loaded)], received.inputs)
        predictions = self._predict(own_inputs, place)
        pairing = self._pair(received, predictions, place)  # counted where it is, and on the CPU if it can be
        labels = pairing.grouped(to_device(labels, pairing.found.device))
        is_there = pairing.found.device == received.groups.device
        groups = _grouped(received.groups if is_there else loaded, pairing)
        pairs = _count(pairing.found, labels, groups)
        if not is_there:
            pairing, labels = pairing.to(received.groups.device), to_device(labels, received.groups.device)
            groups = _grouped(received.groups, pairing)

        places = pairing.positions
        if places is None and (found := places_in_batch(loaded[:, 1:], loaded[:, 0])) is not None:
            places = to_device(found, groups.device)
        soft_targets = rows_beside(self._table.soft_targets, groups)
        if not are_known:
            soft_targets = _with_new(soft_targets, labels)
        moved = None
        if self._moves_targets(place) and predictions is not None:
            probabilities = mean_over_repeats(predictions.logits.softmax(dim=1), indices)
            moved = moving_average(soft_targets[:, 0], probabilities, settings.momentum)
            soft_targets = _with_moved(soft_targets, moved, places)
        soft_targets = soft_targets.float()
        early_learning, averages = self._early_learning(groups), None
        if settings.keeps_averages and predictions is not None:
            known = rows_beside(self._table.make_averages(), groups).float()
            said = mean_over_repeats(prediction(predictions.logits), indices)
            averages = moving_average(known[:, 0], said, settings.prediction_momentum)
            if early_learning is not None:
                known = _with_moved(known, averages, places)
                early_learning = EarlyLearning(known, settings.early_learning, momentum=None)
        if not settings.correct_neighbors:
            soft_targets[:, 1:] = _one_hot(labels[:, 1:], soft_targets.shape[2])

        rng = derived_rng(settings.seed, place.epoch, place.batch, Stream.WEIGHTS)
        weights = checked_weights(settings.weigh(self._log_posteriors(groups), pairing.found, rng), pairing.found)
        inputs = self._rules.mix(received.inputs, len(loaded), pairing.neighbors, weights)
        targets = MixNNTargets(soft_targets, weights, labels[:, 0], groups, receipt, early_learning)
        changes: dict[str, Any] = {"pairs": pairs, "targets": moved, "averages": averages}
        if self._rules.has_layer and groups.shape[1] > 1:
            changes["row_mix"] = RowMix(received.groups.numel(), partial(pairing.mixed, weights=weights))
        if predictions is None:
            changes["step"] = self._step(place, weights)
        if predictions is not None and settings.is_running:
            changes["losses"], changes["is_other"] = judged(predictions.logits, labels[:, 0])
            changes["representations"] = predictions.representations if settings.keeps_representations else None
        return MixNNBatch(inputs, targets), changes

    def _pair(self, received: ReceivedBatch, predictions: Predictions | None, place: Place) -> Pairing:
        """Find who is whose neighbor: on the CPU, unless it takes what is on the device."""
        settings, loaded = self._settings, received.loaded.groups
        rng = derived_rng(settings.seed, place.epoch, place.batch, Stream.PAIRING)
        indices, representations = loaded[:, 0], None
        if settings.source.sees == "batch":
            indices = received.groups[:, 0]
            representations = None if predictions is None else predictions.representations
        pairs = settings.source.pair(indices, representations, settings.num_neighbors, rng)
        pairs = checked_pairs(pairs, len(indices), settings.num_neighbors)
        if pairs is not None:
            return Pairing.among_originals(pairs.found, pairs.positions)
        return Pairing(torch.ones_like(loaded[:, 1:], dtype=torch.bool), None)

    def _checked_labels(self, received: ReceivedBatch, indices: Tensor) -> tuple[Tensor, bool]:
        """Check the given labels of samples and neighbors, (B·(K+1),) on the CPU as their ``indices`` are.

        Returns:
            The labels, and whether all were known before.
        """
        if self._table.num_classes is None:
            own = map_tensors(lambda tensor: tensor[: len(received.loaded.groups)], received.inputs)
            self._table.set_num_classes(self._view.predict(own).logits.shape[1])
        labels = class_labels(received.labels, indices, self._table.num_classes)
        return labels, self._table.check_labels(indices, labels)

    def _unmixed(
        self, received: ReceivedBatch, labels: Tensor, receipt: Receipt, early_learning: EarlyLearning | None = None
    ) -> MixNNBatch:
        groups = received.groups[:, :1]
        labels = to_device(labels[: len(groups)], groups.device).clone()  # the user's; those that are kept are not
        one_hot = _one_hot(labels, self._table.soft_targets.shape[1])
        weights = torch.ones(len(groups), 1, dtype=torch.float32, device=groups.device)
        inputs = map_tensors(lambda tensor: tensor[: len(groups)], received.inputs)
        targets = MixNNTargets(one_hot.unsqueeze(1), weights, labels, groups, receipt, early_learning)
        return MixNNBatch(inputs, targets)

    def _predict(self, inputs: Any, place: Place) -> Predictions | None:
        """Step 4a, only where something is made of it."""
        settings = self._settings
        need_representations = settings.source.sees == "batch" or settings.keeps_representations
        is_needed = settings.scan != "training" and (
            self._moves_targets(place) or settings.is_running or settings.keeps_averages
        )
        if not is_needed and not need_representations:
            return None
        with record_function("mixnn_loader.predict"):
            return self._view.predict(inputs, need_representations=need_representations)

    def _moves_targets(self, place: Place) -> bool:
        return place.phase == "correction" and self._settings.correct_by == "prediction"

    def _step(self, place: Place, weights: Tensor | None = None) -> TrainingStep | None:
        """Say what is taken from the training step, where the loader makes no predictions of its own."""
        settings = self._settings
        goes_by_it = settings.scan == "training"
        keeps_averages = settings.keeps_averages_in(place.phase)
        if not goes_by_it and not keeps_averages:
            return None
        return TrainingStep(
            dominates=None if weights is None else weights[:, :1] >= LEAST_SHARE,
            averages_momentum=settings.prediction_momentum if keeps_averages else None,
            targets_momentum=settings.momentum if goes_by_it and self._moves_targets(place) else None,
            losses=goes_by_it,
            # In the first epoch a sample has no prediction from an epoch before.
            changes=settings.warmup_epochs == "settled" and place.phase == "warm-up" and place.epoch > 0,
        )

    def _early_learning(self, groups: Tensor) -> EarlyLearning | None:
        """Return what the loss needs of the averages of groups (B, K+1), as they are kept."""
        settings, table = self._settings, self._table
        if settings.early_learning == 0:
            return None
        averages = rows_beside(table.make_averages(), groups).float()
        return EarlyLearning(averages, settings.early_learning, settings.prediction_momentum)

    def _log_posteriors(self, groups: Tensor) -> Tensor:
        # Of a sample that was not scanned nothing is known: it counts as surely wrong.
        log_posteriors = rows_beside(self._table.log_clean_probability, groups)
        return log_posteriors.nan_to_num(nan=-torch.inf, neginf=-torch.inf)


def rows_beside(values: Tensor, indices: Tensor) -> Tensor:
    """Return ``values[indices]`` on the device of ``indices``: of values kept elsewhere, only these rows travel."""
    return to_device(values[to_device(indices, values.device)], indices.device)


def _with_new(soft_targets: Tensor, labels: Tensor) -> Tensor:
    """Make targets (B, K+1, C) one-hot where a sample has none yet: there they are zero, and nowhere else."""
    is_new = soft_targets.sum(dim=2, keepdim=True) == 0
    return torch.where(is_new, _one_hot(labels, soft_targets.shape[2]).to(soft_targets.dtype), soft_targets)


def _with_moved(soft_targets: Tensor, moved: Tensor, places: Tensor | None) -> Tensor:
    """Put the moved targets of a batch, or its moved averages, in place of those from before.

    Args:
        soft_targets: (B, K+1, C) of the groups.
        moved: (B, C), of the samples of the batch.
        places: (B, K), where in the batch a neighbor is, -1 where it is not; None: none is.
    """
    neighbors = soft_targets[:, 1:]
    if places is not None:
        neighbors = torch.where((places >= 0).unsqueeze(2), moved[places.clamp(min=0)], neighbors)
    return torch.cat([moved.unsqueeze(1), neighbors], dim=1)


def _one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Encode labels (..., ) as (..., C) float32; functional.one_hot would wait for the device, to check them."""
    zeros = torch.zeros(*labels.shape, num_classes, dtype=torch.float32, device=labels.device)
    return zeros.scatter_(-1, labels.unsqueeze(-1), 1)


def _as_they_are(rows: Tensor) -> Tensor:
    return rows


def _grouped(loaded: Tensor, pairing: Pairing) -> Tensor:
    """Return the dataset indices of the samples and of their neighbors, (B, K+1), of a batch as it was loaded."""
    return loaded if pairing.places is None else pairing.grouped(loaded[:, 0])


def _count(found: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """Count the pairs of a sample and another that is its neighbor: with the same given label, and all, (2,)."""
    others = found & (groups[:, 1:] != groups[:, :1])
    same = others & (labels[:, 1:] == labels[:, :1])
    return torch.stack([same, others]).sum(dim=(1, 2))
