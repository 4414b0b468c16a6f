"""What is needed only after warm-up, tried once on the first batch: what is broken shows in second one."""

import copy
import warnings
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mixnn_loader._utils.logits import are_probabilities
from mixnn_loader._utils.random_state import Stream, derived_rng, forked_random_state
from mixnn_loader._utils.transfer import to_device
from mixnn_loader._utils.warn import warn_user
from mixnn_loader._utils.warn_once import WarnOnce
from mixnn_loader.data.indexed import in_loaded_order
from mixnn_loader.data.labels import class_labels
from mixnn_loader.data.members import makes_own_batches
from mixnn_loader.data.rehearse import load_once
from mixnn_loader.data.to_device import ReceivedBatch, Receiver
from mixnn_loader.method.credibility import Evidence
from mixnn_loader.method.early_learning import prediction
from mixnn_loader.method.input_rules import InputRules
from mixnn_loader.model.mix_layer import MixLayers
from mixnn_loader.model.predictor import ModelView, Predictions
from mixnn_loader.neighbors.source import Candidates
from mixnn_loader.run.answers import checked_drawn, checked_estimate, checked_found, checked_pairs, checked_weights
from mixnn_loader.run.members import Members
from mixnn_loader.run.pairing import Pairing
from mixnn_loader.run.rehearse_mixing import rehearse_mixing
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.scan import judged
from mixnn_loader.run.settings import Settings

PROBABILITIES = (
    "the model's outputs are probabilities: none is below 0, and rows sum to one. The loader and MixNNLoss take "
    "logits, and a softmax of a softmax hardly learns: leave the softmax at the end of the model out"
)

Kind = TypeVar("Kind")


class Rehearsal:
    """Scans the first batch, searches in it, loads it with neighbors, pairs, weighs and mixes it, for the errors' sake.

    Only samples of that batch are touched, and of those that are known to be training data, and nothing of it is kept.

    Args:
        settings: the hyper-parameters.
        view: the model.
        receiver: brings batches to the model's device.
        table: gets the number of classes.
        members: which samples may be neighbors.
        loader: the user's.
        scan_dataset: what is scanned.
        rules: how inputs are mixed.
        mix_layers: the layers whose output is mixed; None: there are none.
    """

    def __init__(
        self,
        settings: Settings,
        view: ModelView,
        receiver: Receiver,
        table: SampleTable,
        members: Members,
        loader: DataLoader[Any],
        scan_dataset: Any,
        rules: InputRules,
        mix_layers: MixLayers | None,
    ) -> None:
        self._settings = settings
        self._view = view
        self._receiver = receiver
        self._table = table
        self._members = members
        self._loader = loader
        self._scan_dataset = scan_dataset
        self._rules = rules
        self._mix_layers = mix_layers
        self._is_done = False
        self._first: np.ndarray | None = None

    def run(self, received: ReceivedBatch) -> None:
        """Try everything, on the first call only.

        Where other samples are not known before they are drawn, the next batch is loaded with those of the first.

        Args:
            received: the batch that is about to be handed out.

        Warns:
            UserWarning: the model's outputs are probabilities, or inputs pass the layers of ``mix_layer`` by.

        Raises:
            Exception: whatever would be raised later.
        """
        if len(received.loaded.groups) == 0 or (self._is_done and self._first is None):
            return
        settings = self._settings
        indices = received.loaded.groups[:, 0].numpy()
        rng = derived_rng(settings.seed, 0, 0, Stream.REHEARSAL)
        if self._is_done and self._first is not None:
            first, self._first = np.setdiff1d(self._first, indices), None
            if len(first) > 0:
                self._load_together(indices, first, settings.num_neighbors, int(rng.integers(2**32)))
            return
        seed = int(rng.integers(2**32))
        [scanned] = load_once(self._loader, self._scan_dataset, [indices[:, None]], seed)
        batch = self._receiver.receive(scanned, self._view.device)
        predictions = self._view.predict(
            batch.inputs, need_representations=settings.source.sees != "nothing" or settings.needs_representations
        )
        if are_probabilities(predictions.logits):
            warn_user(PROBABILITIES)
        self._table.set_num_classes(predictions.logits.shape[1])
        labels = class_labels(batch.labels, in_loaded_order(scanned.groups), self._table.num_classes)
        given = class_labels(received.labels, in_loaded_order(received.loaded.groups), self._table.num_classes)
        if (wrong := (labels != given[: len(labels)]).nonzero()).numel() > 0:
            row = int(wrong[0])
            raise ValueError(
                f"the label of dataset index {int(indices[row])} is {int(given[row])} in training and "
                f"{int(labels[row])} in the scan; scan_dataset must hold the same samples in the same order as the "
                "dataset, with the same labels"
            )
        with forked_random_state(seed):
            loaded, pairing = self._pair(indices, predictions, rng, seed)
            self._estimate(indices, labels, predictions)
            self._weigh(pairing.found, rng)
            if self._mix_layers is not None and pairing.found.shape[1] > 0:
                rehearse_mixing(self._view, self._mix_layers, self._rules, batch if loaded is None else loaded, pairing)
        self._is_done = True

    def _pair(
        self, indices: np.ndarray, predictions: Predictions, rng: np.random.Generator, seed: int
    ) -> tuple[ReceivedBatch | None, Pairing]:
        """Search in the batch alone, load neighbors that are drawn from it, and pair its samples.

        Returns:
            The batch with the neighbors that were loaded; None: none were. And who is whose neighbor in it.
        """
        source, k, device = _copied(self._settings.source), self._settings.num_neighbors, self._view.device
        distinct, first = np.unique(indices, return_index=True)
        pool = np.repeat(np.arange(len(self._table))[:, None], self._settings.table_width, axis=1)
        if source.sees == "dataset" and predictions.representations is not None:
            representations = predictions.representations[to_device(torch.from_numpy(first), device)]
            usable = representations.isfinite().all(dim=1)
            rows, representations = distinct[usable.cpu().numpy()], representations[usable]
            if (num_found := min(self._settings.pool_size, len(rows) - 1)) > 0:
                searched = source.search(representations, num_found, None)
                neighbors = checked_found(searched, len(rows), num_found, len(rows)).neighbors
                pool[rows, :num_found] = rows[neighbors.cpu().numpy()]
        drawn = source.draw(indices, k, Candidates(distinct, pool), rng)
        drawn = checked_drawn(drawn, len(indices), k, len(self._table))
        loaded: ReceivedBatch | None = None
        if drawn.shape[1] > 0:
            elsewhere = rng.permutation(self._members.elsewhere(torch.from_numpy(indices)))
            if len(elsewhere) > 0:
                loaded = self._load_together(indices, elsewhere, drawn.shape[1], seed)
            else:
                loaded, self._first = self._receive(indices, drawn, seed), indices
        representations_of_batch = predictions.representations if source.sees == "batch" else None
        own = torch.from_numpy(indices)
        pairs = source.pair(to_device(own, device) if source.sees == "batch" else own, representations_of_batch, k, rng)
        pairs = checked_pairs(pairs, len(indices), k, thoroughly=True)
        if pairs is not None:
            return None, Pairing.among_originals(pairs.found, pairs.positions).to(device)
        return loaded, Pairing(torch.ones(drawn.shape, dtype=torch.bool, device=device), None)

    def _estimate(self, indices: np.ndarray, labels: Tensor, predictions: Predictions) -> None:
        distinct, first = (torch.from_numpy(rows) for rows in np.unique(indices, return_index=True))
        losses, _ = judged(predictions.logits, to_device(labels, predictions.logits.device))
        losses = losses[to_device(first, losses.device)].float()
        if losses.isfinite().any():  # else there is nothing to estimate from, and maybe only in this batch
            with warnings.catch_warnings():  # so few samples say nothing
                warnings.simplefilter("ignore")
                said = prediction(predictions.logits.nan_to_num())[to_device(first, losses.device)]
                estimator = _copied(self._settings.estimator)
                averages = said if estimator.uses_averages else None
                votes = said if estimator.uses_votes else None
                evidence = Evidence(distinct, labels[first], losses, averages, votes)
                estimate = estimator.estimate(evidence, WarnOnce())
            likely = checked_estimate(estimate, len(distinct)).likely
            if self._settings.correct_by == "credibility" and likely is None and not self._settings.keeps_averages:
                raise ValueError(
                    "correct_by='credibility' moves targets towards what is likely, and what is passed as "
                    "credibility= gives none: let it return Estimate(..., likely=...), or set uses_averages = True"
                )

    def _weigh(self, found: Tensor, rng: np.random.Generator) -> None:
        """Weigh where all are found, and where none is; with all equally credible, and surely wrong."""
        shape, weigh = (found.shape[0], found.shape[1] + 1), _copied(self._settings.weigh)
        for some in (found, torch.zeros_like(found)):
            for log_posterior in (-1.0, -torch.inf):
                posteriors = torch.full(shape, log_posterior, dtype=torch.float32, device=found.device)
                checked_weights(weigh(posteriors, some, rng), some, thoroughly=True)

    def _load_together(self, indices: np.ndarray, others: np.ndarray, k: int, seed: int) -> ReceivedBatch:
        """Load a batch with neighbors from elsewhere in the dataset; if that fails, see whether it is due to them.

        Args:
            indices: (B,) int64, the batch.
            others: (n,) int64, samples that are not in it.
            k: neighbors a sample.
            seed: of the random transforms.
        """
        elsewhere = np.resize(others, (len(indices), k))
        try:
            return self._receive(indices, elsewhere, seed)
        except Exception as error:
            self._receive(indices, np.repeat(indices[:, None], k, axis=1), seed)
            # A sample that cannot be loaded at all says so itself. Twice, as a collate_fn may want more than one.
            alone = [np.array([[index], [index]]) for index in np.unique(elsewhere)]
            load_once(self._loader, self._loader.dataset, alone, seed)
            raise _not_together(error) from error

    def check_alone(self, error: Exception, batches: Iterable[np.ndarray]) -> None:
        """See whether the user's own batches, one of which failed to load with its neighbors, can be loaded without.

        Args:
            error: what loading has raised.
            batches: (B,) int64 each.

        Raises:
            RuntimeError: they can be.
        """
        if not makes_own_batches(self._loader):
            return
        loads = False
        with suppress(Exception):
            for indices in batches:
                self._receive(indices, indices[:, None][:, :0], seed=0)
            loads = True
        if loads:
            raise _not_together(error) from error

    def _receive(self, indices: np.ndarray, neighbors: np.ndarray, seed: int) -> ReceivedBatch:
        [loaded] = load_once(self._loader, self._loader.dataset, [np.column_stack([indices, neighbors])], seed)
        return self._receiver.receive(loaded, self._view.device)


def _copied(answering: Kind) -> Kind:
    """Copy an object of the user's, which may keep something from what it is asked; itself if it cannot be copied."""
    copied = answering
    with suppress(Exception):
        copied = copy.deepcopy(answering)
    return copied


def _not_together(error: Exception) -> RuntimeError:
    return RuntimeError(
        f"a batch can be loaded, but not together with neighbors from elsewhere in the dataset ({error}). If only "
        "samples of one batch can be collated, as those of one length, take the neighbors from the batch, "
        "neighbors='batch' or 'random-batch', or let collate_fn pad them to one length"
    )
