"""The user's batches of indices, which a run that was stopped within a pass takes up where it left them."""

import operator
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from mixnn_loader._utils.random_state import RandomState
from mixnn_loader._utils.warn import warn_user
from mixnn_loader.checkpoint.samplers import SamplerState


@dataclass
class Position:
    """A place within a pass.

    Attributes:
        sampler_state: the user's generators and samplers at the start of the pass.
        random_state: the global generators then, which ``shuffle=True`` draws from.
        num_drawn: batches drawn from the sampler so far.
        num_samples: samples in these.
        waiting: (B,) indices by batch number, of batches drawn, since workers load ahead, but not trained on yet.
        exhausted: whether the sampler has been asked for more and had none, which may draw random numbers, too.
        checksum: of the indices drawn so far.
    """

    sampler_state: SamplerState
    random_state: RandomState
    num_drawn: int = 0
    num_samples: int = 0
    waiting: dict[int, np.ndarray] = field(default_factory=dict)
    exhausted: bool = False
    checksum: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and primitives."""
        return {
            "sampler_state": self.sampler_state.state_dict(),
            "random_state": self.random_state.state_dict(),
            "num_drawn": self.num_drawn,
            "num_samples": self.num_samples,
            "exhausted": self.exhausted,
            "checksum": self.checksum,
            "waiting": {number: torch.from_numpy(indices.copy()) for number, indices in self.waiting.items()},
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "Position":
        """Take over what `state_dict` returned."""
        return cls(
            SamplerState.from_state_dict(state["sampler_state"]),
            RandomState.from_state_dict(state["random_state"]),
            num_drawn=state["num_drawn"],
            num_samples=state["num_samples"],
            waiting={number: indices.cpu().numpy() for number, indices in state["waiting"].items()},
            exhausted=state["exhausted"],
            checksum=state["checksum"],
        )


class ResumableBatches:
    """Iterates the user's batch sampler, can pause, and can take a pass up in its middle.

    A sampler has no position that could be saved, but what it draws from can be: from the same random states it draws
    the same order again, and no sample is loaded for it. So a resumed pass draws again what had been drawn, hands
    out the batches that were waiting, and goes on with those after them.

    Args:
        loader: the user's.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader
        self._position: Position | None = None
        self._resume_at: tuple[Position, SamplerState] | None = None
        self._drawing: Iterator[Any] | None = None
        self._max_batches: int | None = None
        self._max_samples: int | None = None

    def __len__(self) -> int:
        """Return the batches of a whole pass."""
        batch_sampler: Any = self._loader.batch_sampler
        return len(batch_sampler)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """Draw batches up to the end of the pass, or to where it is to pause; from there, iterating again goes on.

        Yields:
            A batch's number in the pass, from 0, and its indices (B,) int64.

        Raises:
            TypeError: the sampler yields something else than integers.
            RuntimeError: a pass to be resumed has fewer batches than had been drawn.

        Warns:
            UserWarning: a pass to be resumed has come in another order.
        """
        position = self._started()
        yield from list(position.waiting.items())
        while not self.is_paused:
            number = position.num_drawn
            if not self._draw(position):
                return
            yield number, position.waiting[number]

    @property
    def resumes(self) -> bool:
        """Whether the next pass is the rest of one that was stopped."""
        return self._resume_at is not None

    @property
    def is_paused(self) -> bool:
        """Whether as much has been drawn as was allowed."""
        position = self.position()
        if position is None:
            return False
        enough_batches = self._max_batches is not None and position.num_drawn >= self._max_batches
        return enough_batches or (self._max_samples is not None and position.num_samples >= self._max_samples)

    def pause_at(self, num_batches: int | None, num_samples: int | None = None) -> None:
        """Set where to pause.

        Args:
            num_batches: of the pass so far.
            num_samples: of the pass so far; a batch is never cut.
        """
        self._max_batches, self._max_samples = num_batches, num_samples

    def has_more(self) -> bool:
        """Whether there is a batch that has not been trained on; this draws the next one if need be."""
        position = self._started()
        return bool(position.waiting) or self._draw(position)

    def done(self, number: int) -> None:
        """Note that a batch has been trained on."""
        if self._position is not None:
            self._position.waiting.pop(number, None)

    def forget(self) -> None:
        """Let the next pass be a new one."""
        self._position = self._resume_at = self._drawing = None
        self._max_batches = self._max_samples = None

    def position(self) -> Position | None:
        """Return where the running pass is, or where the next one will go on; None if there is none that has begun."""
        return self._position if self._resume_at is None else self._resume_at[0]

    def go_to(self, position: Position, now: SamplerState) -> None:
        """Let the next pass be the rest of one.

        Args:
            position: where it was stopped.
            now: the user's generators at that place.
        """
        self._position, self._drawing, self._resume_at = None, None, (position, now)

    def _started(self) -> Position:
        """Return the running pass's position; start or resume one if none is running."""
        if self._position is None or self._drawing is None:
            batch_sampler: Any = self._loader.batch_sampler
            if self._resume_at is None:
                self._position = Position(SamplerState.of(self._loader), RandomState.now())
                self._drawing = iter(batch_sampler)
            else:
                position, now = self._resume_at
                self._drawing = self._drawn_again(position, now)
                self._position, self._resume_at = position, None
        return self._position

    def _draw(self, position: Position) -> bool:
        """Draw a batch, which then waits; return whether there was one."""
        batch = None if self._drawing is None else next(self._drawing, None)
        if batch is None:
            position.exhausted = True
            return False
        indices = indices_of(batch)
        position.waiting[position.num_drawn] = indices
        position.num_drawn += 1
        position.num_samples += len(indices)
        position.checksum = zlib.crc32(indices.tobytes(), position.checksum)
        return True

    def _drawn_again(self, position: Position, now: SamplerState) -> Iterator[Any]:
        """Bring the batch sampler to where it was, and every generator, too."""
        random_state, as_set = RandomState.now(), SamplerState.of(self._loader)
        position.sampler_state.restore(self._loader)
        position.random_state.restore()
        batch_sampler: Any = self._loader.batch_sampler
        batches: Iterator[Any] = iter(batch_sampler)
        checksum = 0
        for number in range(position.num_drawn):
            batch = next(batches, None)
            if batch is None:
                raise RuntimeError(
                    f"the state is of a pass of which {position.num_drawn} batches had been drawn, this loader's "
                    f"batch sampler gives {number}; resume with the dataset, sampler and batch size of the saved run"
                )
            checksum = zlib.crc32(indices_of(batch).tobytes(), checksum)
        if checksum != position.checksum and not self._is_whole(position):
            warn_user(
                f"the batch sampler {type(batch_sampler).__name__} drew other batches than in the saved run: what is "
                "left of the pass is exact only if each batch is drawn independently of those before; let it draw "
                "from a generator that is an attribute of its own, or give it state_dict() and load_state_dict()"
            )
        if position.exhausted:
            batches = iter(list(batches))
        # The training loop may have drawn from them, too, since the epoch started.
        now.restore_generators(self._loader)
        as_set.restore_epochs(self._loader)  # the next pass may be of another epoch than this one
        random_state.restore()
        return batches

    def _is_whole(self, position: Position) -> bool:
        """Whether nothing is left: of several processes, one may then go on from another's place."""
        try:
            return position.num_drawn == len(self)
        except TypeError:  # the user's batch sampler does not tell
            return False


def indices_of(batch: Any) -> np.ndarray:
    """Return what a batch sampler has yielded as (B,) int64.

    Raises:
        TypeError: it is something else than integers.
        ValueError: one is negative.
    """
    return np.array([_as_index(index) for index in batch], dtype=np.int64)


def _as_index(index: Any) -> int:
    try:
        number = operator.index(index)
    except TypeError:
        raise TypeError(
            f"the sampler must yield integer dataset indices, got {index!r}; MixNN keeps its state by index"
        ) from None
    if number < 0:
        raise ValueError(f"the sampler must yield dataset indices >= 0, got {number}; count from the start instead")
    return number
