"""Processes that train together, kept at the same place and told what the others have learned."""

import zlib
from dataclasses import fields
from typing import Any

import torch
from torch.utils.data import DataLoader

from mixnn_loader._utils.processes import Processes
from mixnn_loader.data.user_loader import length_of, num_samples, warn_of_parts
from mixnn_loader.model.predictor import ModelView
from mixnn_loader.run.epoch import Epoch
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.settings import Settings
from mixnn_loader.run.share_rows import average_rows, share_predictions

_START, _END = 0, 1


class Synchronizer:
    """What the processes do together around an epoch; with a single one there is nothing to do.

    Whatever they do begins with the same comparison, so that processes that are not at the same place find out,
    rather than take one thing for another.

    Args:
        processes: that train together.
        settings: the hyper-parameters.
        view: the model.
        table: the per-sample rows.
        loader: the user's.
    """

    def __init__(
        self, processes: Processes, settings: Settings, view: ModelView, table: SampleTable, loader: DataLoader[Any]
    ) -> None:
        self._processes = processes
        self._settings = settings
        self._view = view
        self._table = table
        self._loader = loader
        self._parts_checked = False
        self._unshared: Epoch | None = None

    @property
    def unshared(self) -> Epoch | None:
        """The epoch of which processes have not told one another what they have learned; None: they have."""
        return self._unshared

    @property
    def is_shared(self) -> bool:
        """Whether all processes know what each has learned."""
        return self._unshared is None

    def start(self, epoch: Epoch) -> None:
        """Start a pass, or go on with one; what it learns is shared by the next `share`.

        Warns:
            UserWarning: for the first time, if the sampler does not give each process a part of its own.

        Raises:
            RuntimeError: the processes are not at the same place, or not in the same run.
        """
        if not self._parts_checked:
            self._parts_checked = True
            warn_of_parts(self._loader, self._processes.rank, self._processes.size)
        if self._processes.size > 1:
            self._compare(_START, epoch)
        self._unshared = epoch

    def resume(self, unshared: Epoch | None) -> None:
        """Take over from a saved state whether there is something to share.

        Args:
            unshared: the epoch of which there is.
        """
        self._unshared = unshared

    def note_shares(self, epoch: Epoch) -> None:
        """Write down what has been counted in an epoch, as soon as all processes have counted the same.

        The end of warm-up may follow from it.
        """
        if self._processes.size == 1 or self.is_shared:
            epoch.note_shares()

    def share(self) -> int:
        """Let all processes know what each has learned since they were last told.

        Returns:
            How many batches of the epoch have been trained on: by the process that has done most, as one of them may
            have left the epoch early; 0 if there is nothing to share.

        Raises:
            RuntimeError: the processes are not at the same place.
        """
        epoch, self._unshared = self._unshared, None
        if epoch is None or self._processes.size == 1:
            return 0
        self._compare(_END, epoch)
        rows_of = share_predictions(self._table, self._table.take_unshared(), self._processes, self._view.device)
        if epoch.phase == "correction" and self._settings.correct_by == "prediction":
            average_rows(self._table.soft_targets, rows_of, self._processes)
        if self._settings.keeps_averages_in(epoch.phase):
            average_rows(self._table.make_averages(), rows_of, self._processes)
        trained = torch.tensor([epoch.trained], dtype=torch.int64, device="cpu")
        for tally in (epoch.pairs, epoch.changes):
            tally.add_up(lambda counts: self._processes.gather(counts.to(self._view.device).unsqueeze(0)).sum(dim=0))
        epoch.note_shares()
        return int(self._processes.gather(trained).max())

    def _compare(self, stage: int, epoch: Epoch) -> None:
        num_batches = length_of(self._loader)
        settings = {f.name: getattr(self._settings, f.name) for f in fields(self._settings) if f.init}
        # Objects look different everywhere; names and numbers do not.
        settings = {name: value for name, value in settings.items() if isinstance(value, (str, int, float, type(None)))}
        self._processes.check_agreement(
            {
                "length of the dataset": num_samples(self._loader),
                "number of batches an epoch": -1 if num_batches is None else num_batches,
                "checksum of the arguments": zlib.crc32(repr(settings).encode()),
                "epoch": epoch.number,
                "batch": epoch.trained if stage == _START else 0,  # a loop may be left before or after a step
                "place (0 at the start, 1 at the end of the epoch)": stage,
            }
        )
