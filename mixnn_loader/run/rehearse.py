"""What is needed only after warm-up, tried once on the first batch: what is broken shows in second one."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from mixnn_loader._utils.random_state import derived_rng
from mixnn_loader.data.indexed import in_loaded_order
from mixnn_loader.data.labels import class_labels
from mixnn_loader.data.rehearse import load_once
from mixnn_loader.data.to_device import ReceivedBatch, Receiver
from mixnn_loader.model.predictor import ModelView
from mixnn_loader.neighbors.source import Candidates
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.settings import Settings

_REHEARSAL_STREAM = 6
"""Sets its random numbers apart from those of the training."""


class Rehearsal:
    """Scans the first batch, loads it with neighbors, and pairs it, for the sake of the errors.

    Only samples of that batch are touched, and nothing of it is kept.

    Args:
        settings: the hyper-parameters.
        view: the model.
        receiver: brings batches to the model's device.
        table: gets the number of classes.
        loader: the user's.
        scan_dataset: what is scanned.
    """

    def __init__(
        self,
        settings: Settings,
        view: ModelView,
        receiver: Receiver,
        table: SampleTable,
        loader: DataLoader[Any],
        scan_dataset: Any,
    ) -> None:
        self._settings = settings
        self._view = view
        self._receiver = receiver
        self._table = table
        self._loader = loader
        self._scan_dataset = scan_dataset
        self._is_done = False

    def hold(self, received: ReceivedBatch) -> None:
        """Try everything, for the first time that this is called.

        Args:
            received: the first batch.

        Raises:
            Exception: whatever would be raised later.
        """
        if self._is_done or len(received.loaded.groups) == 0:
            return
        settings = self._settings
        indices = received.loaded.groups[:, 0].numpy()
        rng = derived_rng(settings.seed, 0, 0, _REHEARSAL_STREAM)
        seed = int(rng.integers(2**32))
        [scanned] = load_once(self._loader, self._scan_dataset, [indices[:, None]], seed)
        batch = self._receiver.receive(scanned, self._view.device)
        predictions = self._view.predict(batch.inputs, need_representations=settings.source.sees != "nothing")
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
        k = settings.num_neighbors
        pool = np.repeat(np.roll(indices, 1)[:, None], max(k, settings.pool_size), axis=1)
        rows = np.zeros((len(self._table), pool.shape[1]), dtype=np.int64)
        rows[indices] = pool
        drawn = settings.source.draw(indices, k, Candidates(np.unique(indices), rows), rng)
        if drawn.shape[1] > 0:
            [loaded] = load_once(self._loader, self._loader.dataset, [np.column_stack([indices, drawn])], seed)
            self._receiver.receive(loaded, self._view.device)
        own = torch.from_numpy(indices).to(self._view.device)
        settings.source.pair(own, predictions.representations, k, rng)
        self._is_done = True
