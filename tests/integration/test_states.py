"""A state is all of a run or nothing; what is loaded means what was saved."""

import copy
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from integration.stoppable import MODES, SETTINGS, CountingBatches, ShuffledBatches
from torch import Tensor
from torch.utils.data import DataLoader
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss
from mixnn_loader.checkpoint.entries import STATE_VERSION

LENGTH = 5


class Training:
    """Forty points in five batches, drawn by a sampler with generators and a state."""

    def __init__(self, mode: dict[str, Any], sampling: dict[str, Any] | None = None) -> None:
        self.model = mlp()
        if sampling is None:
            sampling = {"batch_size": 8, "shuffle": True, "generator": torch.Generator().manual_seed(3)}
        self.loader = MixNNDataLoader(DataLoader(Points(), **sampling), self.model, **(SETTINGS | mode))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.criterion = MixNNLoss()

    def batches(self) -> Iterator[Any]:
        """Train for ever."""
        while True:
            for batch in self.loader:
                loss = self.criterion(self.model(batch.inputs), batch.targets)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                yield batch

    def steps(self, count: int) -> Iterator[Any]:
        """Train for some batches, and return the rest."""
        batches = self.batches()
        for _ in range(count):
            next(batches)
        return batches


def same(one: Any, other: Any) -> bool:
    """Whether nests are the same to the last bit."""
    if isinstance(one, Tensor):
        return (
            isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())
        )
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_epoch_and_batch_are_the_same_after_loading(mode: dict[str, Any]) -> None:
    training, steps = Training(mode), 0
    batches = training.batches()
    while steps < 4 * LENGTH:
        next(batches)
        steps += 1
        other = Training(mode)
        other.loader.load_state_dict(training.loader.state_dict())
        expected = divmod(steps, LENGTH)
        assert (training.loader.epoch, training.loader.batch) == expected
        assert (other.loader.epoch, other.loader.batch) == expected
        other.model.load_state_dict(training.model.state_dict())
        # What comes is the rest of the epoch, or, after its last batch, the whole next one: never nothing.
        assert sum(1 for _ in other.loader) == LENGTH - expected[1]


def paths(state: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give every entry of a state by the keys that lead to it."""
    for key, value in state.items():
        yield (*above, key)
        if isinstance(value, Mapping):
            yield from paths(value, (*above, key))


def with_entry(state: dict[str, Any], path: tuple[Any, ...], change: Any) -> dict[str, Any]:
    """Copy a state, and change one entry."""
    changed = copy.deepcopy(state)
    owner: Any = changed
    for key in path[:-1]:
        owner = owner[key]
    change(owner, path[-1])
    return changed


def numpy_keys() -> Any:
    """Read NumPy's global stream."""
    state: Any = np.random.get_state()
    return state[1]


def drop(owner: Any, key: Any) -> None:
    del owner[key]


def replace_by_text(owner: Any, key: Any) -> None:
    owner[key] = "something else"


def replace_by_none(owner: Any, key: Any) -> None:
    owner[key] = None


def replace_by_a_shorter_one(owner: Any, key: Any) -> None:
    owner[key] = owner[key][:-1] if isinstance(owner[key], (Tensor, tuple, list)) else -7


def replace_by_floats_or_integers(owner: Any, key: Any) -> None:
    value = owner[key]
    owner[key] = (value.long() if value.is_floating_point() else value.double()) if isinstance(value, Tensor) else 0.5


class Forgetful(ShuffledBatches):
    """Has a state besides its generators; not every one will do."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.rounds = 0

    def state_dict(self) -> dict[str, Any]:
        return {"rounds": self.rounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rounds = -1
        self.rounds = int(state["rounds"])

    def __iter__(self) -> Iterator[list[int]]:
        self.rounds += 1
        return super().__iter__()


OPTIONAL = {
    "within",
    "pairs",
    "changes",
    "soft_targets",
    "losses",
    "log_clean_probability",
    "representations",
    "last_batch",
}
OPTIONAL |= {"unshared", "batch_size", "phases", "correction", "times_asked", "wrong_events", "probability_sums"}
"""What may be None."""


@pytest.mark.filterwarnings("ignore:the state is of a run whose first epochs")
@pytest.mark.parametrize(
    "change", [drop, replace_by_text, replace_by_none, replace_by_a_shorter_one, replace_by_floats_or_integers]
)
@pytest.mark.parametrize("mode", [MODES[0], MODES[1]], ids=str)
@pytest.mark.parametrize("steps", [2 * LENGTH + 2])
def test_a_broken_state_changes_nothing(steps: int, mode: dict[str, Any], change: Any) -> None:
    def training(steps: int) -> Training:
        made = Training(mode, {"batch_sampler": Forgetful(steps)})
        made.steps(steps)
        return made

    state, running = training(steps).loader.state_dict(), Training(mode, {"batch_sampler": Forgetful(0)})
    batches = running.steps(LENGTH + 2)
    before, streams = running.loader.state_dict(), (random.getstate(), torch.get_rng_state(), numpy_keys())
    accepted = set()
    for path in paths(state):
        broken = with_entry(state, path, change)
        if same(broken, state):
            continue
        # What stands below "samplers" is the sampler's own.
        expected = (ValueError, TypeError, KeyError) if "samplers" in path else ValueError
        try:
            running.loader.load_state_dict(broken)
            accepted.add(path)
            running.loader.load_state_dict(before)
            batches = running.batches()
        except expected:
            pass
        assert same(running.loader.state_dict(), before), path
    now = random.getstate(), torch.get_rng_state(), numpy_keys()
    assert streams[0] == now[0]
    assert torch.equal(streams[1], now[1])
    assert np.array_equal(streams[2], now[2])
    too_short = {"attributes", "samplers", "history", *(["neighbor_pool"] if steps < LENGTH else [])}
    allowed: dict[Any, set[str]] = {  # what NumPy and the sampler make of their own states is up to them
        drop: {"attributes", "generators", "epochs", "samplers", "waiting"},
        replace_by_none: {"attributes", *OPTIONAL},
        replace_by_a_shorter_one: too_short,
    }
    of_this = allowed.get(change, {"attributes", "samplers"})
    assert {path for path in accepted if not of_this & set(path)} == set()
    next(batches)


def test_a_sampler_that_refuses_its_state_leaves_the_others_as_they_were() -> None:
    class Refusing(CountingBatches):
        def __init__(self) -> None:
            super().__init__()
            self.generator = torch.Generator().manual_seed(1)

        def load_state_dict(self, state: dict[str, Any]) -> None:
            raise RuntimeError(f"not this one, {state}")

    training = Training({}, {"batch_sampler": Refusing(), "generator": torch.Generator().manual_seed(2)})
    other = Training({}, {"batch_sampler": Refusing(), "generator": torch.Generator().manual_seed(9)})
    training.steps(2)
    before = other.loader.state_dict()
    with pytest.raises(RuntimeError, match="not this one"):
        other.loader.load_state_dict(training.loader.state_dict())
    assert same(other.loader.state_dict(), before)


def test_a_generator_state_of_another_size() -> None:
    training = Training({})
    training.steps(2)
    state = training.loader.state_dict()
    state["sampler_state"]["generators"]["loader"] = torch.zeros(16, dtype=torch.uint8)
    with pytest.raises(ValueError, match="for the generator of loader is no state of a Generator"):
        Training({}).loader.load_state_dict(state)


def test_a_pass_goes_on_after_a_state_that_could_not_be_loaded() -> None:
    training, undisturbed = Training({}), Training({})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = [batch.targets.indices for batch, _ in zip(undisturbed.batches(), range(12), strict=False)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for number, batch in enumerate(training.batches()):
            assert torch.equal(batch.targets.indices, expected[number])
            with pytest.raises(ValueError, match="has no 'num_neighbors'"):
                training.loader.load_state_dict({"version": STATE_VERSION})
            if number == 11:
                break
