"""Who is scanned, in which batches, and the pass itself: step 1 of Algorithm 1 over a whole dataset."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mixnn_loader._utils.processes import Processes
from mixnn_loader._utils.progress import progress_bar
from mixnn_loader._utils.random_state import Stream, derived_rng, forked_random_state
from mixnn_loader.data.indexed import LoadedBatch, NeighborBatchSampler, rebuilt
from mixnn_loader.data.scan_batches import ScanBatches
from mixnn_loader.data.to_device import Receiver
from mixnn_loader.model.predictor import ModelView
from mixnn_loader.run.members import Members
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.scan import scan
from mixnn_loader.run.settings import Settings
from mixnn_loader.run.share_rows import share_column, share_predictions

SCAN_BATCH_SIZE = 128
"""Batch size of the scan where the user's batch sampler has none of its own."""


class DatasetScan:
    """Asks the model about every sample that takes part.

    Args:
        settings: the hyper-parameters.
        view: the model.
        receiver: brings batches to the model's device.
        members: which samples take part.
        loader: the user's loader, whose settings the scan takes over.
        dataset: what to scan, a row for each of the user's dataset.
        progress: show a progress bar.
        processes: which train together, and share the work.

    Raises:
        ImportError: what ``progress`` needs is not installed.
    """

    def __init__(
        self,
        settings: Settings,
        view: ModelView,
        receiver: Receiver,
        members: Members,
        *,
        loader: DataLoader[Any],
        dataset: Any,
        progress: bool,
        processes: Processes,
    ) -> None:
        self._seed = settings.seed
        self._view = view
        self._receiver = receiver
        self._members = members
        self._processes = processes
        self._bar = progress_bar() if progress else None
        nobody = np.empty(0, dtype=np.int64)
        self._batches = ScanBatches(nobody, loader.batch_size or SCAN_BATCH_SIZE, seed=settings.seed)
        self._batch_sampler = NeighborBatchSampler(self._batches, settings.seed, reseeds=True)
        self._loader = rebuilt(
            loader,
            dataset,
            batch_sampler=self._batch_sampler,
            generator=None,
            in_order=True,
            persistent_workers=loader.persistent_workers and settings.scans_again,
        )

    def choose(self) -> Tensor:
        """Choose whom the next scan is of, by what is known now: (n,) int64 on the CPU, dataset indices, ascending.

        None are chosen as long as nothing is known of any sample.

        Raises:
            RuntimeError: the sampler can draw no sample.
        """
        known = self._members.now()
        if len(known) == 0 and self._members.known() is not None:
            raise RuntimeError("the sampler can draw no sample: its indices are empty, or its weights all zero")
        batch_of = self._members.batches(known)
        if batch_of is not None:  # with whom the others can be collated is not known before they are drawn
            known = known[batch_of[known] >= 0]
        self._batches.share(known, self._processes.rank, self._processes.size, batch_of=batch_of)
        return torch.from_numpy(known)

    def run(
        self, table: SampleTable, epoch: int, *, need_representations: bool, keep_predictions: bool = False
    ) -> None:
        """Write the loss and the representation of every sample that was chosen to a table.

        Args:
            table: of this process; afterwards it holds what all processes have found.
            epoch: by which random transforms are seeded.
            need_representations: also keep what enters the feature layer.
            keep_predictions: also write the probability of each class in place of its average.
        """
        self._view.recheck()
        table.losses.fill_(torch.nan)
        # The pass draws from random streams of its own: the user's come out as if it had not been made.
        seed = int(derived_rng(self._seed, epoch, Stream.SCAN).integers(2**32))
        self._batch_sampler.begin_epoch(epoch)
        # The start of a pass draws a number from it, on the default device.
        self._loader.generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
        with forked_random_state(seed):
            batches: Iterable[LoadedBatch] = self._loader
            if self._bar is not None:
                batches = self._bar(batches, desc=f"scan, epoch {epoch}", leave=False)
            with self._view.buffers_of_first(self._processes):
                scan(
                    self._receiver.one_ahead(batches, self._view.device),
                    self._view,
                    table,
                    need_representations=need_representations,
                    keep_predictions=keep_predictions,
                )
        if self._processes.size > 1:
            scanned = torch.from_numpy(self._batches.own_indices())
            rows_of = share_predictions(table, scanned, self._processes, self._view.device)
            if keep_predictions:
                share_column(table.make_averages(), rows_of, self._processes)
