"""Which epoch comes: those that have been trained for are counted, whatever was iterated."""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from mixnn_loader._utils.log import logger
from mixnn_loader._utils.warn import warn_user
from mixnn_loader.run.epoch import Epoch, Record
from mixnn_loader.run.settings import Settings
from mixnn_loader.run.tally import Tally
from mixnn_loader.run.warmup import FEW, first_after_warmup

MOST_STARTS = 64
"""Passes whose starts are known, besides the first: a model that was put back was so for a few trial passes."""


class Schedule:
    """Hands out the epochs one after another, and keeps the history.

    Args:
        settings: the hyper-parameters.

    Attributes:
        number: of the epoch in progress, or else of the one that comes.
        epoch: the one in progress; None between epochs.
        history: a record an epoch.
        finished: epochs that have been trained for in this process.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.number = 0
        self.epoch: Epoch | None = None
        self.history: list[Record] = []
        self.finished = 0
        self._told = False
        self._is_set = False
        self._has_opened = False
        self._warned = False
        self._starts: list[tuple[Tensor, int]] = []
        self._latest: Tensor | None = None

    @property
    def warmup(self) -> int:
        """W, the epochs of warm-up; as long as nobody knows, the most that they may be."""
        return first_after_warmup(self._settings, self.history)

    def rewind(self, now: Tensor, is_same: Callable[[Tensor, Tensor], bool]) -> bool:
        """Go back where the model was restored to what it was at the start of epoch 0, or of one of warm-up.

        That is what a search for a learning rate does, which trains for a while and then restores the model: what was
        trained in between counts no more. An epoch that the user has set stays.

        Args:
            now: the fingerprint of the model at the start of a pass.
            is_same: compares two of them.

        Returns:
            Whether the model was restored: what was learned in between is to be forgotten.
        """
        is_set, self._is_set = self._is_set, False
        if self._latest is not None and not is_same(self._latest, now):
            for place, (start, number) in enumerate(self._starts):
                if is_same(start, now) and (number == self.number or not is_set):
                    self.finished = max(0, self.finished - (self.number - number))
                    self.number, self.epoch, self._latest = number, None, None
                    self.history = [record for record in self.history if record["epoch"] < number]
                    del self._starts[place + 1 :]
                    return True
        if self.number == 0 or self._settings.phase(self.number, self.warmup) == "warm-up":
            self._starts.append((now, self.number))
            del self._starts[1:-MOST_STARTS]
        return False

    def note_trained(self, now: Tensor) -> None:
        """Take in the fingerprint of the model when it has changed in an epoch."""
        self._latest = now

    def open(self) -> Epoch:
        """Return the epoch in progress, or start the next one."""
        if not self._has_opened:
            self._has_opened = True
            self._tell_of_epochs()
        if self.epoch is None:
            self.epoch = self._epoch(self.number)
            self._tell_of_end(self.epoch)
            self._warn_of_number()
        if not any(record is self.epoch.record for record in self.history):
            self.history.append(self.epoch.record)
        return self.epoch

    def withdraw(self, epoch: Epoch) -> None:
        """Take an epoch of which nothing has been trained out of the history: somebody had but a look."""
        if epoch.trained == 0:
            self.history = [record for record in self.history if record is not epoch.record]

    def finish(self, epoch: Epoch) -> None:
        """Count an epoch as trained for."""
        if self.epoch is epoch:
            self.number, self.epoch = epoch.number + 1, None
            self.finished += 1

    def reopen(self, trained: int) -> None:
        """Go back to the end of the epoch before, of which there is nothing left.

        Args:
            trained: its batches.
        """
        self._go_on_in(self.number - 1, trained).is_estimated = True

    def tell_of_short_passes(self, trained: int, length: float) -> None:
        """Log once that passes are too short to be epochs."""
        if not self._told:
            self._told = True
            logger.info(
                "a pass was left after %d of about %d batches; such passes add up until they make an epoch of the "
                "schedule. For another length of its epochs pass epoch_length=, in batches",
                trained,
                length,
            )

    def warn_if_short(self) -> None:
        """Say so where training ends before what it was for.

        Warns:
            UserWarning: epochs have been trained for, all of them of warm-up; or none that corrects labels, though
                nobody has said when that should begin.
        """
        if _has_failed():
            return  # that is what the user has to read
        settings, reached = self._settings, {record["phase"] for record in self.history}
        if self.finished == 0 or "correction" in reached:
            return
        if "mixing" not in reached and self.warmup == 0:
            return  # it was said why when the epoch started
        if "mixing" not in reached:
            advice = (
                "tell it how long the training is, epochs=, or set warmup_epochs="
                if settings.epochs is None
                else "set warmup_epochs=, or train on"
            )
            warn_user(
                f"the training ended in warm-up, after {self.finished} epoch(s): nothing has been mixed. A "
                f"MixNNDataLoader mixes from epoch {self.warmup} on; {advice}. It must live as long as the "
                "training: one that is built anew for every epoch is always at its start"
            )
        elif settings.correction_epoch == "auto" and settings.epochs is None:
            warn_user(
                f"the training ended after epoch {self.number - 1}, and no label has been corrected: by default that "
                f"begins with epoch {settings.correction}. Tell the MixNNDataLoader how long the training is, epochs=, "
                "or set correction_epoch=, which may be None"
            )

    def _warn_of_number(self) -> None:
        """Say so where the number of the epoch that starts does not go with what has been trained.

        Warns:
            UserWarning: once, if it is after warm-up and no epoch has been trained for, or beyond ``epochs``.
        """
        settings, number = self._settings, self.number
        if self._warned:
            return
        if number >= self.warmup > 0 and not any(record["epoch"] < number for record in self.history):
            self._warned = True
            warn_user(
                f"epoch {number} comes after warm-up (epochs 0 to {self.warmup - 1}), and none of these has been "
                "trained for: MixNN would go by a model that knows nothing. set_epoch() counts from 0; to go on with a "
                "training call load_state_dict(); for a model that is trained already pass warmup_epochs=0"
            )
        elif settings.epochs is not None and number >= settings.epochs:
            self._warned = True
            warn_user(
                f"epoch {number} comes after the training's end, epochs={settings.epochs}: labels go on from where "
                "they are. For another training call reset(model); for a longer one pass epochs= accordingly"
            )

    def set(self, number: int) -> None:
        """Let epoch ``number`` be the one that comes; the one in progress goes on if it is this one."""
        if number != self.number:
            self.epoch = None
        self.number, self._is_set = number, True

    def state_dict(self, *, finished: bool, unshared: Epoch | None = None) -> dict[str, Any]:
        """Return tensors and primitives.

        Args:
            finished: whether the epoch in progress is at its end.
            unshared: the epoch that is over, of which processes have not told one another; None: there is none.
        """
        epoch = None if finished else self.epoch
        counted = None if finished else self.epoch or unshared
        return {
            "epoch": self.number + finished,
            "finished": finished,
            "trained": 0 if epoch is None else epoch.trained,
            "estimated": epoch is not None and epoch.is_estimated,
            "pairs": None if counted is None else counted.pairs.state(),
            "changes": None if counted is None else counted.changes.state(),
            "history": [dict(record) for record in self.history],
            "phases": self._first_epochs(self.history),
        }

    def compare(self, state: Mapping[str, Any]) -> None:
        """Compare W and E_s with those of a state that will be loaded.

        Warns:
            UserWarning: its epochs have other phases than these settings give them.
        """
        phases, here = state["phases"], self._first_epochs(state["history"])
        if dict(phases) != here:
            before, now = (f"{each['mixing']} and {each['correction']}" for each in (phases, here))
            warn_user(
                f"the state is of a run whose first epochs of mixing and of correction are {before}; those of this "
                f"loader are {now}, and epoch {state['epoch']} comes next. Pass the same epochs=, warmup_epochs= and "
                "correction_epoch= unless that is meant"
            )

    def load_state_dict(self, state: Mapping[str, Any], *, within: bool) -> None:
        """Take over what `state_dict` returned.

        Args:
            state: with these entries and maybe others.
            within: whether it was saved within an epoch.
        """
        self.history = [dict(record) for record in state["history"]]
        self.number, self.epoch = state["epoch"], None
        self._starts, self._latest, self._is_set = [], None, False
        if state["trained"] > 0 or within:
            epoch = self._go_on_in(self.number, state["trained"])
            epoch.is_estimated = state["estimated"]
            epoch.pairs, epoch.changes = Tally(state["pairs"]), Tally(state["changes"])

    def unshared(self, state: Mapping[str, Any]) -> Epoch | None:
        """Return the epoch of which processes have yet to tell one another, of a state that has been loaded.

        It is the one in progress, or else the one before; None where nothing was counted in that.
        """
        if self.epoch is not None or state["pairs"] is None or self.number == 0:
            return self.epoch
        epoch = self._epoch_of_history(self.number - 1)
        epoch.pairs, epoch.changes = Tally(state["pairs"]), Tally(state["changes"])
        return epoch

    def _first_epochs(self, history: Iterable[Record]) -> dict[str, int | None]:
        """Return the first epochs of mixing and of correction, which comes after warm-up in any case."""
        mixing, correction = first_after_warmup(self._settings, history), self._settings.correction
        return {"mixing": mixing, "correction": None if correction is None else max(mixing, correction)}

    def _epoch(self, number: int) -> Epoch:
        warmup = self.warmup
        return Epoch(number, self._settings.phase(number, warmup), warmup)

    def _epoch_of_history(self, number: int) -> Epoch:
        """Return an epoch with its record, if that is the last one of the history."""
        epoch = self._epoch(number)
        if self.history and self.history[-1]["epoch"] == number:
            epoch.record = self.history[-1]
            epoch.phase = epoch.record["phase"]
        return epoch

    def _go_on_in(self, number: int, trained: int) -> Epoch:
        epoch = self._epoch_of_history(number)
        epoch.trained = trained
        self.number, self.epoch = number, epoch
        return epoch

    def _tell_of_epochs(self) -> None:
        """Log what the schedule is, where any of it is a default or follows from the length of the training."""
        settings = self._settings
        if settings.warmup_epochs == "settled":
            logger.info(
                "warm-up ends after the first epoch in which the model changes its mind about fewer than %.0f %% of "
                "the samples, or about hardly fewer than before, and before epoch %d at the latest",
                100 * FEW,
                settings.longest_warmup,
            )
        if "auto" not in (settings.warmup_epochs, settings.correction_epoch):
            return
        correction = "never" if settings.correction is None else f"from epoch {settings.correction} on"
        source = (
            "the defaults are those of the paper's 300 epochs: for another length of the training pass epochs="
            if settings.epochs is None
            else f"what is 'auto' follows in the paper's proportions from epochs={settings.epochs}"
        )
        logger.info(
            "warm-up ends before epoch %d (warmup_epochs), and soft targets are moved %s (correction_epoch); %s",
            settings.longest_warmup,
            correction,
            source,
        )

    def _tell_of_end(self, epoch: Epoch) -> None:
        """Log that warm-up is over, where the training was to tell, and this is the first epoch after it."""
        is_first = bool(self.history) and self.history[-1]["phase"] == "warm-up" and epoch.phase != "warm-up"
        if self._settings.warmup_epochs != "settled" or not is_first:
            return
        share = self.history[-1].get("changed_share")
        logger.info(
            "warm-up is over after %d epochs: %s",
            epoch.number,
            "no changed predictions were told, and it may not be longer"
            if share is None
            else f"in the last one the model has changed its mind about {100 * share:.1f} % of the samples",
        )


def _has_failed() -> bool:
    """Whether the program ends by an error; in an interactive one, an error ends nothing."""
    return getattr(sys, "last_value", None) is not None and not hasattr(sys, "ps1")
