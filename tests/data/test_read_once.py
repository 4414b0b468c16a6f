"""Reading a sampler of an unknown type ahead of its use, without a trace."""

import itertools
import logging
import random
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler
from toy import Points

from mixnn_loader._utils.generators import state_of
from mixnn_loader.data.read_once import read_once

POINTS = Points(40)
GLOBAL = torch.Generator().manual_seed(5)
GLOBAL_NUMPY = np.random.default_rng(5)
NUMBERS = itertools.count()
DEFAULT = random.Random(3)


class Draws(Sampler[int]):
    """Draws eight of the first twenty samples by a generator of any kind."""

    def __init__(self, draw: Callable[[], Any]) -> None:
        self.draw = draw
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        yield from [int(index) for index in self.draw()]

    def __len__(self) -> int:
        return 8


class Own(Draws):
    """Draws from a generator that is an attribute."""

    def __init__(self, generator: Any) -> None:
        super().__init__(list)
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        if isinstance(self.generator, torch.Generator):
            yield from torch.randperm(20, generator=self.generator)[:8].tolist()
        elif isinstance(self.generator, random.Random):
            yield from self.generator.sample(range(20), 8)
        else:
            yield from self.generator.permutation(20)[:8]


class OfTheClass(Own):
    shared: ClassVar[Any] = np.random.RandomState(3)

    def __init__(self) -> None:
        super().__init__(None)

    def __iter__(self) -> Iterator[int]:
        yield from self.shared.permutation(20)[:8]


class ByDefault(Own):
    def __init__(self) -> None:
        super().__init__(None)

    def __iter__(self, generator: Any = DEFAULT) -> Iterator[int]:
        yield from generator.sample(range(20), 8)


def local() -> Draws:
    generator = torch.Generator().manual_seed(7)
    return Draws(lambda: torch.randperm(20, generator=generator)[:8])


SAMPLERS: dict[str, Callable[[], Any]] = {
    "global torch": lambda: Draws(lambda: torch.randperm(20)[:8]),
    "global numpy": lambda: Draws(lambda: np.random.permutation(20)[:8]),
    "global python": lambda: Draws(lambda: random.sample(range(20), 8)),
    "module torch": lambda: Draws(lambda: torch.randperm(20, generator=GLOBAL)[:8]),
    "module numpy": lambda: Draws(lambda: GLOBAL_NUMPY.permutation(20)[:8]),
    "closure": local,
    "own torch": lambda: Own(torch.Generator().manual_seed(3)),
    "own numpy": lambda: Own(np.random.default_rng(3)),
    "own legacy numpy": lambda: Own(np.random.RandomState(3)),
    "own python": lambda: Own(random.Random(3)),
    "class": OfTheClass,
    "default argument": ByDefault,
}


def indices_in(batch_of: np.ndarray | None) -> list[int]:
    """List the samples that are in a batch."""
    assert batch_of is not None
    assert batch_of.dtype == np.int64
    return [int(index) for index in np.flatnonzero(batch_of >= 0)]


def seed_all() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    GLOBAL.manual_seed(5)
    GLOBAL_NUMPY.bit_generator.state = np.random.default_rng(5).bit_generator.state


@pytest.mark.parametrize("name", SAMPLERS)
def test_reading_tells_the_epoch_that_comes_and_leaves_no_trace(name: str) -> None:
    seed_all()
    sampler = SAMPLERS[name]()
    loader = DataLoader(POINTS, sampler=sampler, batch_size=3)
    read = read_once(loader)
    again = read_once(loader)
    assert sampler.epoch == 0
    drawn = sorted(int(index) for index in sampler)
    assert indices_in(read) == indices_in(again) == drawn
    assert len(drawn) == 8


class Batches:
    """A batch sampler that shares a generator of the user's with everything else."""

    def __init__(self, generator: torch.Generator) -> None:
        self.inner = BatchSampler(RandomSampler(range(10), generator=generator), 3, drop_last=False)
        self.generator = generator
        self.drawn: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.inner:
            self.drawn.append(batch)
            yield batch


def test_a_generator_of_the_users_is_left_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    batch_sampler = Batches(generator)
    before = generator.get_state()
    read = read_once(DataLoader(POINTS, batch_sampler=batch_sampler, generator=generator))
    assert indices_in(read) == list(range(10))
    assert torch.equal(generator.get_state(), before)
    assert batch_sampler.drawn == []


class Endless:
    """Goes on for ever; in batches of none, if it has no indices."""

    def __init__(self, indices: list[int], length: int | None = None) -> None:
        self.indices = indices
        self.length = length

    def __iter__(self) -> Iterator[list[int]]:
        for start in itertools.count():
            yield [(start + index) % 40 for index in self.indices]

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError
        return self.length


def test_a_sampler_that_never_ends_is_read_up_to_a_bound() -> None:
    endless = read_once(DataLoader(POINTS, batch_sampler=Endless([0, 1])))
    assert indices_in(endless) == list(range(40))
    two_epochs = read_once(DataLoader(POINTS, batch_sampler=Endless([0, 1], length=3)))
    assert indices_in(two_epochs) == list(range(7))
    nothing = read_once(DataLoader(POINTS, batch_sampler=Endless([])))
    assert indices_in(nothing) == []


class Singleton(Draws):
    """Its copy is itself."""

    def __init__(self) -> None:
        super().__init__(lambda: range(8))

    def __deepcopy__(self, _: Any) -> "Singleton":
        return self


class Counts(Draws):
    epochs: ClassVar[list[int]] = []

    def __init__(self) -> None:
        super().__init__(lambda: range(8))

    def __iter__(self) -> Iterator[int]:
        self.epochs.append(1)
        return iter(range(8))


class ByNumber(Draws):
    def __init__(self) -> None:
        super().__init__(lambda: range(next(NUMBERS), 8))


class HoldsIterator(Draws):
    def __init__(self) -> None:
        super().__init__(lambda: range(8))
        self.source = (index for index in range(8))


@pytest.mark.parametrize(
    ("sampler", "reason"),
    [
        (Singleton(), "its copy changes what it shares with it"),
        (Counts(), "its copy changes what it shares with it"),
        (ByNumber(), "its copy changes what it shares with it"),
        (HoldsIterator(), "cannot pickle 'generator' object"),
        (Draws(lambda: 1 / 0), "division by zero"),
        (Draws(lambda: [3, 40]), "index 40 is out of bounds"),
        (Draws(lambda: [3, -1]), "draws -1, which is no place"),
    ],
)
def test_what_cannot_be_read_without_a_trace_is_not_read(
    sampler: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "mixnn_loader"):
        assert read_once(DataLoader(POINTS, sampler=sampler, batch_size=3)) is None
    assert reason in caplog.text


@pytest.mark.parametrize("batches", [[["a"]], [[0.5]], [3]])
def test_something_else_than_indices_is_not_read(batches: Any) -> None:
    class Other:
        def __iter__(self) -> Iterator[Any]:
            return iter(batches)

    assert read_once(DataLoader(POINTS, batch_sampler=Other())) is None


def test_streams_are_put_back_where_reading_fails() -> None:
    generator = torch.Generator().manual_seed(3)

    def draw() -> Any:
        torch.rand(1, generator=generator)
        raise RuntimeError

    before = state_of(generator), torch.get_rng_state()
    assert read_once(DataLoader(POINTS, sampler=Draws(draw))) is None
    assert torch.equal(generator.get_state(), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_the_dataset_is_not_copied() -> None:
    class Uncopied(Points):
        def __deepcopy__(self, _: Any) -> Any:
            raise AssertionError

    class Sorted(Draws):
        def __init__(self, points: Points) -> None:
            super().__init__(list)
            self.points = points
            self.labels = points.labels

        def __iter__(self) -> Iterator[int]:
            assert self.labels is self.points.labels
            return iter(self.labels.argsort().tolist())

        def __len__(self) -> int:
            return 40

    points = Uncopied()
    read = read_once(DataLoader(points, sampler=Sorted(points), batch_size=10))
    assert read is not None
    assert len(read) == 40


def test_the_batches_are_told_too() -> None:
    read = read_once(DataLoader(Points(6), batch_sampler=[[4, 1], [0, 5], [1]]))
    assert read is not None
    assert read.tolist() == [1, 2, -1, -1, 0, 1]
