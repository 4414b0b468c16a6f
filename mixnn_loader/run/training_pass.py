"""One iteration of the loader, in which the model is trained."""

import math
import sys
import time
from collections.abc import Iterator

import torch
from torch.profiler import record_function

from mixnn_loader.checkpoint.samplers import SamplerState
from mixnn_loader.data.to_device import ReceivedBatch
from mixnn_loader.data.user_loader import is_endless_by_design, length_of
from mixnn_loader.method.batch import MixNNBatch
from mixnn_loader.method.receipt import Receipt
from mixnn_loader.model.mix_layer import Waiting
from mixnn_loader.run.epoch import Epoch
from mixnn_loader.run.load_batches import load_batches
from mixnn_loader.run.open_epoch import finish_epoch, open_epoch
from mixnn_loader.run.part import Part
from mixnn_loader.run.parts import Parts
from mixnn_loader.run.told import MOST_UNTOLD
from mixnn_loader.run.update import Update


class TrainingPass:
    """A pass over the loader: an epoch or a part of one; if it is endless, epoch after epoch.

    Args:
        parts: what all passes share.
        resumed: where the pass is resumed, the part in which it was stopped.

    Attributes:
        part: the part that belongs to the epoch in progress.
        handed_out: batches of this part that have been handed out.
        is_over: whether the pass has ended, or another has taken its place.
    """

    def __init__(self, parts: Parts, resumed: Part | None = None) -> None:
        self._parts = parts
        self._resumes = resumed is not None
        self._is_first_epoch = True
        self._is_first_pass = len(parts.schedule.history) == 0
        self._watches = True  # one batch of each pass, until a step has been seen
        self._pending: Update | None = None
        self._unchecked: list[tuple[Waiting, Receipt]] = []
        self.part = Part() if resumed is None else resumed
        self.handed_out = self.part.trained
        self.is_over = False

    @property
    def is_at_end(self) -> bool:
        """Whether the last batch of the epoch has been trained on."""
        batches, pending = self._parts.batches, self._pending
        position = batches.position()
        if self.is_over or position is None or not batches.is_paused:
            return False
        done = {pending.number} if pending is not None and self._has_been_seen(pending) else set()
        return self.part.trained + len(done) > 0 and set(position.waiting) <= done

    def batches(self) -> Iterator[MixNNBatch]:
        """Yield batches, and write down what each has changed when the next one is asked for.

        Raises:
            RuntimeError: the dataset's length has changed, the model gives no finite loss at all, another pass has
                been started meanwhile, or the processes are not at the same place.
        """
        exhausted = False
        try:
            if self._resumes:
                self._skip_what_is_done()
            while True:
                epoch = self._open()
                yield from self._batches_of(epoch)
                if not self._goes_on():
                    break
                self._parts.synchronizer.share()
                finish_epoch(self._parts, epoch)
                self._start_part()
            exhausted = True
            self._parts.synchronizer.share()
        except Exception:
            self._stop()
            raise
        finally:
            self.end(exhausted=exhausted)

    @torch.inference_mode(mode=False)  # what it writes must stay writable in the training
    def settle(self, *, only_if_seen: bool = False) -> None:
        """Write down what the batch that was handed out last has changed: it has been trained on.

        Args:
            only_if_seen: only if the loss or the model was seen with it.
        """
        self._parts.told.write()
        update, epoch = self._pending, self._parts.schedule.epoch
        if update is None or epoch is None or (only_if_seen and not self._has_been_seen(update)):
            return
        self._pending = None
        update.write(self._parts.table, epoch, self._parts.processes)
        self._parts.told.wait_for(update)
        self._parts.batches.done(update.number)
        self.part.trained += 1
        if self._parts.observer.has_seen_step:  # a loop that fetches batches ahead trains on this one later
            self._parts.observer.end()
        if (changed := self._parts.observer.change(epoch)) is not None:
            self._parts.schedule.note_trained(changed)

    def end(self, *, exhausted: bool = False) -> None:
        """End the pass, and with it its epoch if enough of it has been trained on; once it is over, do nothing.

        Args:
            exhausted: whether the sampler has no more batches.
        """
        if self.is_over or sys.is_finalizing():  # then PyTorch may be gone, and nobody will ask
            return
        self.settle(only_if_seen=True)
        at_end = exhausted or self.is_at_end
        if self._pending is not None:
            self._pending.receipt.is_late = True
        self._close()
        parts, epoch = self._parts, self._parts.schedule.epoch
        parts.observer.end()
        if parts.processes.size > 1:  # as above, after a pass that was left early
            parts.told.forget()
        length = self._length(at_end)
        parts.batches.forget()
        if epoch is None:
            return
        if self._is_trained_for(epoch, length):
            finish_epoch(self._parts, epoch)
            return
        parts.schedule.withdraw(epoch)
        parts.synchronizer.note_shares(epoch)
        if epoch.trained > 0 and parts.settings.epoch_length is None:
            parts.schedule.tell_of_short_passes(self.part.trained, length)

    def drop(self) -> None:
        """End the pass without a trace: another state has been loaded."""
        if self._parts.mix_layers is not None:
            self._parts.mix_layers.clear()
        self._close()
        self._parts.observer.end()
        self._parts.told.forget()

    def _close(self) -> None:
        self._pending, self.is_over = None, True
        self._parts.journal.is_in_pass = False

    def _has_been_seen(self, update: Update) -> bool:
        return update.receipt.trained_on or self._parts.observer.has_seen_step

    def _skip_what_is_done(self) -> None:
        """Where the epoch was at its end, go on with the next: of this pass if it has more batches, else of a new one.

        A sampler without a length does not tell: then the rest of the epoch may turn out to be empty.
        """
        batches = self._parts.batches
        if self._parts.schedule.epoch is not None:
            return
        if batches.has_more():
            self._start_part()
            self._is_first_epoch = False
        else:
            batches.forget()
            self.part, self.handed_out, self._resumes = Part(), 0, False

    def _open(self) -> Epoch:
        epoch = open_epoch(self._parts, resumes=self._resumes)
        if not self._resumes:
            self.part.offset = self.part.first_batch - epoch.trained
        return epoch

    def _batches_of(self, epoch: Epoch) -> Iterator[MixNNBatch]:
        self._pause()
        record = epoch.record
        seconds, resumed = record["batches_seconds"] or 0.0, time.perf_counter()
        outbox: list[MixNNBatch] = []  # what this frame names would stay in memory during the user's step
        draws_seed = self._draws_seed()
        self._resumes = self._is_first_epoch = False
        for received in load_batches(self._parts, epoch, self.part.offset, draws_seed=draws_seed):
            outbox.append(self._hand_out(received, epoch))
            del received
            seconds += time.perf_counter() - resumed
            record["batches_seconds"] = seconds
            yield outbox.pop()
            resumed = time.perf_counter()
            if self.is_over:  # before the next batch is fetched: it would be the other pass's
                raise RuntimeError(
                    f"epoch {epoch.number} is over: another was started, set or loaded; iterate one at a time"
                )
            self._check_mixed()
            if self._pending is not None:
                self._parts.told.check()
            self.settle()

    def _check_mixed(self) -> None:
        """See that what has been trained on was mixed in the layers of ``mix_layer``.

        Raises:
            RuntimeError: it was not.
        """
        layers = self._parts.mix_layers
        if layers is None:
            return
        for batch, receipt in self._unchecked:
            if receipt.trained_on:
                layers.check(batch)
        self._unchecked[:] = [(batch, receipt) for batch, receipt in self._unchecked if not receipt.trained_on][
            -MOST_UNTOLD:
        ]

    def _hand_out(self, received: ReceivedBatch, epoch: Epoch) -> MixNNBatch:
        parts = self._parts
        parts.members.check_drawn(received.loaded.groups[:, 0].numpy())
        parts.rehearsal.run(received)
        with record_function("mixnn_loader.mix"):
            place = epoch.place(received.loaded.number - self.part.offset)
            batch, self._pending = parts.mixer.mix(received, place)
        if parts.mix_layers is not None and self._pending.row_mix is not None:
            to_layers = parts.rules.to_layer(batch.inputs)
            self._unchecked.append((parts.mix_layers.hand_out(self._pending.row_mix, to_layers), self._pending.receipt))
        if self._watches:
            parts.observer.begin(batch.inputs)
            self._watches = False
        self.handed_out += 1
        position = parts.batches.position()
        if parts.processes.size > 1 and parts.batches.is_paused and position is not None and len(position.waiting) == 1:
            # The last batch: many a training loop counts, and does not ask for what comes after. What all processes
            # have to do together is done now.
            self.settle()
            parts.synchronizer.share()
            parts.told.forget()  # what is told from now on would be known to this process alone
        return batch

    def _draws_seed(self) -> bool:
        """Whether the user's loader would draw a number for its workers now: it does so at the start of a pass.

        Where its workers live on, it draws one for all passes: a copy or a resumed run, which starts them anew, draws
        none.
        """
        lives_on = self._parts.wrapped.persistent_workers and not self._is_first_pass
        return self._is_first_epoch and not self._resumes and not lives_on

    def _pause(self) -> None:
        """Let the sampler pause where the epoch ends."""
        parts, part = self._parts, self.part
        length = parts.settings.epoch_length
        if length is not None:
            parts.batches.pause_at(part.offset + length)
        elif (length := length_of(parts.wrapped)) is not None:
            parts.batches.pause_at(part.first_batch + length)
        else:
            parts.batches.pause_at(None, part.first_sample + parts.num_samples)

    def _goes_on(self) -> bool:
        """Whether the pass goes on after its epoch has ended."""
        batches, wrapped = self._parts.batches, self._parts.wrapped
        return batches.is_paused and not is_endless_by_design(wrapped) and batches.has_more()

    def _start_part(self) -> None:
        """Start the part of the pass that belongs to the next epoch."""
        position = self._parts.batches.position()
        if position is not None:
            waiting = sum(len(indices) for indices in position.waiting.values())
            self.part = Part(position.num_drawn - len(position.waiting), position.num_samples - waiting)
        self.part.offset = self.part.first_batch
        self.handed_out = 0
        self._resumes = False

    def _is_trained_for(self, epoch: Epoch, length: float) -> bool:
        """Whether a pass counts as an epoch: half of its batches, or several parts that make a whole one."""
        wanted = self._parts.settings.epoch_length
        if wanted is not None:
            return epoch.trained >= wanted
        return self.part.trained > 0 and (self.part.trained >= length / 2 or epoch.trained >= length)

    def _length(self, at_end: bool) -> float:
        """Return the batches of an epoch; where nobody tells, from the size of those that have come."""
        if at_end:
            return self.handed_out
        length, position = length_of(self._parts.wrapped), self._parts.batches.position()
        if length is not None or position is None or position.num_samples == 0:
            return math.inf if length is None else length
        return math.ceil(self._parts.num_samples / (position.num_samples / position.num_drawn))

    def _stop(self) -> None:
        """Stop the pass where loading a batch has failed: the next one is its rest."""
        parts, position = self._parts, self._parts.batches.position()
        if self.is_over:
            return
        self._close()
        parts.observer.end()
        if position is not None:
            parts.batches.go_to(position, SamplerState.of(parts.wrapped))
