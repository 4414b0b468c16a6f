"""The passes over a loader's batches, one after another: where they are, and what is saved of them."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from mixnn_loader._utils.warn import warn_user
from mixnn_loader.checkpoint.entries import STATE_VERSION, check_state
from mixnn_loader.checkpoint.position import Position
from mixnn_loader.checkpoint.samplers import SamplerState, put_back_on_error
from mixnn_loader.data.user_loader import length_of, samplers_of
from mixnn_loader.method.batch import MixNNBatch
from mixnn_loader.run.part import Part
from mixnn_loader.run.parts import Parts
from mixnn_loader.run.plain_pass import PlainPasses
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.training_pass import TrainingPass


class Passes:
    """Makes the passes; `mixnn_loader.MixNNDataLoader` says what each method promises.

    Args:
        parts: what all passes share.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._plain = PlainPasses(parts)
        self._running: TrainingPass | None = None  # or else the last one
        self._stopped_in: Part | None = None  # as a state that was loaded says, until the next pass starts

    @property
    def part(self) -> Part | None:
        """The part of the latest pass that belongs to the epoch in progress, of this run or of the one it resumes."""
        return self._stopped_in if self._running is None else self._running.part

    @property
    def epoch(self) -> int:
        """The epoch in progress or, once its last batch has been trained on, the next one."""
        return self._parts.schedule.number + self._is_at_end

    @property
    def batch(self) -> int:
        """Batches of this epoch that the running pass has handed out, or had when a state was saved; else 0."""
        if self._running is not None and not self._running.is_over:
            return 0 if self._running.is_at_end else self._running.handed_out
        if not self._resumes or self.part is None or self._parts.schedule.epoch is None:
            return 0
        return self.part.trained

    def batches(self) -> Iterator[MixNNBatch]:
        """Yield the batches of one pass, or of the rest of the one within which a loaded state was saved.

        Raises:
            RuntimeError: see `TrainingPass.batches`.
        """
        if not torch.is_grad_enabled():
            yield from self._plain.batches()
            return
        self.end()
        self._running = TrainingPass(self._parts, self.part if self._resumes else None)
        self._stopped_in = None
        yield from self._running.batches()

    def end(self) -> None:
        """End the running pass, if there is one."""
        if self._running is not None:
            self._running.end()

    def settled_table(self) -> SampleTable:
        """Return the rows, with all that has been trained on written down."""
        if self._running is not None:
            self._running.settle(only_if_seen=True)
        return self._parts.table

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next pass is of, and tell the samplers.

        Warns:
            UserWarning: the rest of a pass that a loaded state was saved within is dropped.
        """
        part = self._stopped_in
        if part is not None and self._resumes and epoch == self.epoch - 1 and self.batch == 0:
            self._parts.schedule.reopen(part.trained)
        elif epoch != self.epoch:
            if self._resumes and self.batch not in (0, length_of(self._parts.wrapped)):
                warn_user(
                    f"set_epoch({epoch}) drops what is left of epoch {self.epoch} after its batch {self.batch}, within "
                    "which the loaded state was saved; go on with `for epoch in range(loader.epoch, epochs)`"
                )
            self.end()
            self._parts.batches.forget()
            self._parts.schedule.set(epoch)
        elif epoch == self._parts.schedule.number:
            self._parts.schedule.set(epoch)
        for sampler in samplers_of(self._parts.wrapped).values():
            pass_on = getattr(sampler, "set_epoch", None)
            if callable(pass_on):
                pass_on(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs, as tensors and primitives."""
        parts, running = self._parts, self._running
        if running is not None and not running.is_over:
            running.settle(only_if_seen=parts.journal.loss_is_used)
        within, position = None, parts.batches.position()
        finished, part = self._is_at_end, self.part
        if finished and parts.schedule.epoch is not None:
            parts.synchronizer.note_shares(parts.schedule.epoch)
        if position is not None:
            within = {
                "position": position.state_dict(),
                "batch_size": parts.wrapped.batch_size,
                "part": vars(Part() if part is None else part).copy(),
            }
        return {
            "version": STATE_VERSION,
            "num_neighbors": parts.settings.num_neighbors,
            "process": (parts.processes.rank, parts.processes.size),
            "merged": parts.synchronizer.is_shared or (parts.processes.size == 1 and (finished or within is None)),
            "batch": 0 if finished or position is None or part is None else part.trained,
            **parts.schedule.state_dict(finished=finished, unshared=parts.synchronizer.unshared),
            "samples": parts.table.state_dict(),
            "sampler_state": SamplerState.of(parts.wrapped).state_dict(),
            "within": within,
        }

    @torch.inference_mode(mode=False)  # what it takes over must be writable in the training
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the run that `state_dict` was called on stopped; what cannot be loaded changes nothing.

        Raises:
            TypeError, ValueError: it is no state of such a loader.
        """
        check_state(state)
        within, parts = state["within"], self._parts
        self._check_place(state)
        if state["num_neighbors"] != parts.settings.num_neighbors:
            raise ValueError(
                f"the state is of a run with num_neighbors={state['num_neighbors']}, this loader has "
                f"{parts.settings.num_neighbors}"
            )
        take_over = parts.table.prepared(state["samples"], keep_representations=parts.settings.keeps_representations)
        sampler_state = SamplerState.from_state_dict(state["sampler_state"])
        position = None if within is None else Position.from_state_dict(within["position"])
        part = None if within is None else Part(**within["part"])
        sampler_state.warn_of_missing(parts.wrapped)
        parts.schedule.compare(state)
        with put_back_on_error(parts.wrapped):
            if position is not None:  # what will be restored when the pass is taken up
                position.sampler_state.restore(parts.wrapped)
            sampler_state.restore(parts.wrapped)
        # From here on nothing can fail.
        take_over()
        parts.batches.forget()
        parts.schedule.load_state_dict(state, within=within is not None and not state["finished"])
        parts.synchronizer.resume(None if state["merged"] else parts.schedule.unshared(state))
        if position is not None:
            parts.batches.go_to(position, sampler_state)
        running, self._running, self._stopped_in = self._running, None, part
        if running is not None:
            running.drop()

    @property
    def _is_at_end(self) -> bool:
        return self._running is not None and self._running.is_at_end

    @property
    def _resumes(self) -> bool:
        return self._parts.batches.resumes

    def _check_place(self, state: Mapping[str, Any]) -> None:
        """Check that a state saved within an epoch is of this process and its batches."""
        within, (rank, size) = state["within"], state["process"]
        processes, own_batch_size = self._parts.processes, self._parts.wrapped.batch_size
        if state["merged"]:  # all processes knew the same, at the latest with the last batch: any one's is good for all
            rank = processes.rank
        if state["merged"] and within is None:
            size = processes.size
        batch_size = within["batch_size"] if within is not None else own_batch_size
        for what, saved, own in (
            ("with batch_size", batch_size, own_batch_size),
            ("in process (rank, number of processes)", (rank, size), (processes.rank, processes.size)),
        ):
            if saved != own:
                raise ValueError(
                    f"the state was saved within an epoch {what} {saved}, this loader has {own}; go on with the same, "
                    "each process with a state of its own, or from a state that was saved between epochs"
                )
