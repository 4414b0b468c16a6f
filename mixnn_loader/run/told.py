"""What the loss tells of batches, by their receipts, and who hears of it where it tells nothing."""

from mixnn_loader._utils.warn import warn_user
from mixnn_loader.method.receipt import Journal
from mixnn_loader.run.epoch import Epoch
from mixnn_loader.run.observe import Observer
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.schedule import Schedule
from mixnn_loader.run.settings import Settings
from mixnn_loader.run.training_step import AVERAGES_NOT_TOLD, NOT_TOLD
from mixnn_loader.run.update import Update

MOST_UNTOLD = 64
"""Batches that a loop may fetch ahead, or leave out: what is told of earlier ones is lost."""


class Told:
    """Keeps batches of which the loss has not told yet what the model said: a loop may train on them later.

    Args:
        settings: the hyper-parameters.
        table: the per-sample rows.
        schedule: the epochs.
        journal: what the loss has seen.
        observer: what is seen of the training.
    """

    def __init__(
        self, settings: Settings, table: SampleTable, schedule: Schedule, journal: Journal, observer: Observer
    ) -> None:
        self._settings = settings
        self._table = table
        self._schedule = schedule
        self._journal = journal
        self._observer = observer
        self._untold: list[Update] = []

    def wait_for(self, update: Update) -> None:
        """Keep a batch that has been written down, but for what has not been told of it."""
        if not update.is_told:
            self._untold.append(update)

    def write(self) -> None:
        """Write down what has been told since."""
        for update in self._untold:
            update.write_step(self._table, self._schedule.epoch)
        self._untold = [update for update in self._untold if not update.is_told][-MOST_UNTOLD:]

    def forget(self) -> None:
        """Wait no longer."""
        self._untold = []

    def check(self) -> None:
        """Find out at once where the model was trained on the last batch and nothing is told.

        Warns:
            UserWarning: averages of predictions are wanted.

        Raises:
            RuntimeError: there is nothing else to go by.
        """
        if not self._journal.loss_is_used and self._observer.has_seen_step:
            self._react(self._schedule.epoch)

    def check_last_epoch(self, epoch: Epoch) -> None:
        """Find out the same of the epoch before: of a step that is compiled nothing is seen but that the model changes.

        Not at the end of that epoch: a loop that leaves it by ``break`` would not hear of it.

        Args:
            epoch: the one that starts.

        Warns:
            UserWarning: as above, of the first epoch.

        Raises:
            RuntimeError: likewise.
        """
        if not self._journal.loss_is_used and self._observer.changed_in_last_epoch:
            self._react(epoch if self._schedule.finished == 1 else None)

    def _react(self, epoch: Epoch | None) -> None:
        """Raise where there is nothing else to go by; or else warn, if averages are kept in the epoch."""
        if self._settings.scan == "training":
            raise RuntimeError(NOT_TOLD)
        if epoch is not None and self._settings.keeps_averages_in(epoch.phase):
            warn_user(AVERAGES_NOT_TOLD)
