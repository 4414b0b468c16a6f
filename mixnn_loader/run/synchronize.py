"""Processes that train together, kept at the same place and told what the others have learned."""

import zlib
from dataclasses import fields
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from mixnn_loader._utils.processes import Processes
from mixnn_loader.data.user_loader import num_samples, warn_of_parts
from mixnn_loader.model.predictor import ModelView
from mixnn_loader.run.sample_table import SampleState
from mixnn_loader.run.settings import Phase, Settings
from mixnn_loader.run.share_rows import average_targets, share_predictions

_START, _END = 0, 1


class Lockstep:
    """What the processes do together at the start and at the end of an epoch; with a single one there is nothing to do.

    Each of them ends an epoch once, if need be at the start of the next. Whatever they do begins with the same
    comparison, so that processes that are not at the same place find out, rather than take one thing for another.

    Args:
        processes: that train together.
        settings: the hyper-parameters.
        view: the model.
        state: the per-sample state.
        loader: the user's.
    """

    def __init__(
        self, processes: Processes, settings: Settings, view: ModelView, state: SampleState, loader: DataLoader[Any]
    ) -> None:
        self._processes = processes
        self._settings = settings
        self._view = view
        self._state = state
        self._loader = loader
        self._parts_checked = False

    def start(self, epoch: int, batch: int) -> None:
        """Start an epoch, or go on in it behind a number of batches.

        Warns:
            UserWarning: for the first time, if the sampler does not give each process a part of its own.

        Raises:
            RuntimeError: the processes are not at the same place, or not in the same run.
        """
        if not self._parts_checked:
            self._parts_checked = True
            warn_of_parts(self._loader, self._processes.rank, self._processes.size)
        if self._processes.size > 1:
            self._state.track_drawn()
            self._compare(_START, epoch, batch)

    def end(self, epoch: int, phase: Phase, pairs: Tensor) -> Tensor:
        """Let all processes know what each has learned.

        Args:
            epoch: the one that ends.
            phase: what it was.
            pairs: (2,) counts of this process's samples and neighbors.

        Returns:
            The ``pairs`` of all.

        Raises:
            RuntimeError: the processes are not at the same place.
        """
        if self._processes.size == 1:
            return pairs
        self._state.track_drawn()
        self._compare(_END, epoch, 0)
        rows_of = share_predictions(self._state, self._state.take_drawn(), self._processes, self._view.device)
        if phase == "correction":
            average_targets(self._state, rows_of, self._processes)
        return self._processes.gather(pairs.unsqueeze(0)).sum(dim=0)

    def _compare(self, stage: int, epoch: int, batch: int) -> None:
        try:
            num_batches = len(self._loader)
        except TypeError:  # the user's batch sampler does not tell
            num_batches = -1
        settings = {field.name: getattr(self._settings, field.name) for field in fields(self._settings)}
        del settings["search"]  # may be an object, which looks different everywhere
        self._processes.check_agreement(
            {
                "length of the dataset": num_samples(self._loader),
                "number of batches an epoch": num_batches,
                "checksum of the arguments": zlib.crc32(repr(settings).encode()),
                "epoch": epoch,
                "batch": batch,
                "place (0 at the start, 1 at the end of the epoch)": stage,
            }
        )
