"""A run that is stopped after any batch goes on as if it had not been."""

import multiprocessing
import random
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from integration import stoppable
from integration.stoppable import EPOCHS, MODES, SAMPLINGS, SETTINGS, CountingBatches, ShuffledBatches, Training
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss
from mixnn_loader.checkpoint.entries import STATE_VERSION


def outcome(training: Training) -> tuple[list[dict[str, Any]], list[Tensor]]:
    """What is left at the end of a run, the random stream included."""
    loader = training.loader
    history = [{k: v for k, v in entry.items() if not k.endswith("seconds")} for entry in loader.history]
    rows = [loader.soft_targets, loader.losses, loader.clean_probability, loader.neighbor_indices, loader.given_labels]
    numbers = [*(row.clone() for row in rows), *training.model.state_dict().values(), torch.rand(3)]
    return history, numbers


def assert_identical(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


# Batches that are drawn one by one from the stream that the training loop draws from, too, are drawn again otherwise.
DRAWN_AGAIN = "ignore:the batch sampler UnevenBatches drew other batches"


def check_stopped_anywhere(stop: int, sampling: str, num_workers: int, mode: dict[str, Any]) -> None:
    with torch.random.fork_rng():
        before = random.getstate()
        unstopped = Training(3, sampling, num_workers, mode)
        batches, checkpoint = [], b""
        for number, batch in enumerate(unstopped.batches()):
            batches.append(batch)
            if number == stop:
                checkpoint = unstopped.save()
        history, numbers = outcome(unstopped)

        resumed = Training(4, sampling, num_workers, mode)
        resumed.load(checkpoint)
        rest = list(resumed.batches())
        assert_identical(rest, batches[stop + 1 :])
        resumed_history, resumed_numbers = outcome(resumed)
        assert resumed_history == history
        assert_identical(resumed_numbers, numbers)
        random.setstate(before)


@pytest.mark.filterwarnings(DRAWN_AGAIN)
@settings(deadline=None, max_examples=6)
@given(st.integers(0, EPOCHS * 4 - 1), st.sampled_from(SAMPLINGS), st.sampled_from(MODES))
@example(4, "shuffle", {})  # the last batch of an epoch
@example(14, "drawn one by one", {"scan": "running"})
def test_stopped_after_any_batch(stop: int, sampling: str, mode: dict[str, Any]) -> None:
    check_stopped_anywhere(stop, sampling, 0, mode)


@pytest.mark.filterwarnings(DRAWN_AGAIN)
@settings(deadline=None, max_examples=1)
@given(st.integers(0, EPOCHS * 4 - 1), st.sampled_from(SAMPLINGS), st.sampled_from(MODES))
@example(6, "shuffle, own generator", {})
@example(7, "drawn one by one", {"scan": "running"})
def test_stopped_after_any_batch_that_workers_loaded(stop: int, sampling: str, mode: dict[str, Any]) -> None:
    check_stopped_anywhere(stop, sampling, 2, mode)


@pytest.mark.parametrize("stop", range(1, 6))
def test_a_pass_of_several_epochs_draws_from_the_user_s_stream_as_if_it_had_not_been_stopped(stop: int) -> None:
    def drawn(stop: int | None) -> list[Tensor]:
        torch.manual_seed(0)
        model, streams = mlp(), []
        arguments: dict[str, Any] = {"batch_size": 8, "shuffle": True, "epoch_length": 2, "warmup_epochs": 0}
        loader = MixNNDataLoader(Points(), model, **arguments)
        for batch in loader:
            MixNNLoss()(model(batch.inputs), batch)
            streams.append(torch.get_rng_state())
            if len(streams) == stop:
                state, weights = loader.state_dict(), model.state_dict()
                model = mlp(1)
                model.load_state_dict(weights)
                loader = MixNNDataLoader(Points(), model, **arguments)
                loader.load_state_dict(state)
                torch.set_rng_state(streams[-1])
                for again in loader:
                    MixNNLoss()(model(again.inputs), again)
                    streams.append(torch.get_rng_state())
                break
        return streams

    with torch.random.fork_rng():
        assert_identical(drawn(stop), drawn(None))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_killed(tmp_path: Path, num_workers: int) -> None:
    context = multiprocessing.get_context("fork")  # imports take seconds, and have been made
    train = partial(context.Process, target=stoppable.main, args=(tmp_path, "shuffle", num_workers))
    stopped_in = tmp_path / "batch-2-2.pt"  # the third of four epochs, two of five batches
    process = train()
    process.start()
    while not stopped_in.exists() and process.is_alive():
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert 12 <= len(list(tmp_path.glob("batch-*.pt"))) < 20

    process = train()
    process.start()
    process.join()
    assert process.exitcode == 0
    with torch.random.fork_rng():
        unstopped = Training(3, "shuffle", num_workers, {})
        for batch in unstopped.batches():
            file = tmp_path / f"batch-{unstopped.loader.epoch}-{unstopped.loader.batch}.pt"
            assert_identical(torch.load(file, weights_only=True), batch)


def within(batches: int, **arguments: Any) -> dict[str, Any]:
    """Return a state that was saved within the first epoch."""
    loader = MixNNDataLoader(Points(), mlp(), **{"batch_size": 8, **arguments})
    iterator = iter(loader)
    for _ in range(batches):
        next(iterator)
    return loader.state_dict()


def drawn(loader: MixNNDataLoader) -> list[int]:
    """Return the indices that an epoch gives."""
    return [index for batch in loader for index in batch.targets.indices.tolist()]


def test_the_rest_of_an_epoch_is_followed_by_whole_ones() -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8)
    loader.load_state_dict(within(3))
    assert (loader.epoch, loader.batch) == (0, 3)
    assert [drawn(loader), drawn(loader)] == [list(range(24, 40)), list(range(40))]
    assert [entry["epoch"] for entry in loader.history] == [0, 1]


def test_nothing_is_left_after_the_last_batch() -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8)
    loader.load_state_dict(within(5))
    assert (loader.epoch, loader.batch) == (1, 0)
    assert [drawn(loader), drawn(loader)] == [list(range(40)), list(range(40))]
    assert [entry["epoch"] for entry in loader.history] == [0, 1, 2]


def test_the_state_that_was_loaded_can_be_saved_again() -> None:
    state = within(3, shuffle=True, generator=torch.Generator().manual_seed(1))
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8, shuffle=True, generator=torch.Generator())
    loader.load_state_dict(state)
    again = MixNNDataLoader(Points(), mlp(), batch_size=8, shuffle=True, generator=torch.Generator())
    again.load_state_dict(loader.state_dict())
    assert drawn(again) == drawn(loader)


def test_set_epoch_keeps_the_rest_of_its_own_epoch_only() -> None:
    state = within(3)
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8)
    loader.load_state_dict(state)
    loader.set_epoch(0)
    assert drawn(loader) == list(range(24, 40))
    loader.load_state_dict(state)
    with pytest.warns(
        UserWarning, match=r"set_epoch\(1\) drops what is left of epoch 0 after its batch 3.*range\(loader.epoch"
    ):
        loader.set_epoch(1)
    assert (loader.epoch, loader.batch, drawn(loader)) == (1, 0, list(range(40)))


def test_set_epoch_drops_an_empty_rest_silently() -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8)
    loader.load_state_dict(within(5))
    loader.set_epoch(1)
    assert drawn(loader) == list(range(40))


def test_an_iterator_from_before_the_load_goes_on_where_the_state_says() -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8)
    batches = iter(loader)  # as trainers do, to look at what they were given
    loader.load_state_dict(within(4))
    assert [batch.targets.indices.tolist() for batch in batches] == [list(range(32, 40))]


def test_the_sampler_gets_its_epoch_back() -> None:
    def make() -> MixNNDataLoader:
        sampler: DistributedSampler[Any] = DistributedSampler(Points(), num_replicas=1, rank=0)
        return MixNNDataLoader(DataLoader(Points(), batch_size=8, sampler=sampler), mlp())

    first = make()
    first.set_epoch(3)
    batches = iter(first)
    next(batches)
    state = first.state_dict()
    second = make()
    second.load_state_dict(state)
    expected = [index for batch in batches for index in batch.targets.indices.tolist()]
    assert drawn(second) == expected
    assert second.sampler.epoch == 3


def test_a_position_in_other_batches_is_refused() -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=10)
    with pytest.raises(ValueError, match=r"within an epoch with batch_size 8, this loader has 10.* between epochs"):
        loader.load_state_dict(within(3))
    state = {**within(3), "process": (1, 4)}
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8)
    message = r"process \(rank, number of processes\) \(1, 4\), this loader has \(0, 1\).* a state of its own"
    with pytest.raises(ValueError, match=message):
        loader.load_state_dict(state)


def left_early(batches: int) -> dict[str, Any]:
    """Return the state after an epoch that was left early."""
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8)
    for _, _ in zip(range(batches), loader, strict=False):
        pass
    return loader.state_dict()


@pytest.mark.parametrize(
    ("state", "fits"),
    [
        (within(3) | {"process": (1, 1)}, False),
        (within(5) | {"process": (1, 1)}, True),  # the last batch: what all have learned is the same
        (within(5) | {"process": (0, 2)}, False),
        (left_early(3) | {"process": (1, 1)}, True),  # one process knows what all know
        (left_early(3) | {"process": (1, 2), "merged": False}, False),
        (left_early(6) | {"process": (3, 4)}, True),
    ],
    ids=["within", "last batch", "last batch of others", "left early", "left early by one of two", "between"],
)
def test_the_state_of_another_process(state: dict[str, Any], fits: bool) -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8)
    if fits:
        loader.load_state_dict(state)
        assert drawn(loader) == list(range(40))
    else:
        with pytest.raises(ValueError, match="each process with a state of its own"):
            loader.load_state_dict(state)


def test_an_order_that_is_not_drawn_again_is_warned_of() -> None:
    class Hidden(ShuffledBatches):
        """Its generators are where nobody finds them."""

        def __init__(self, seed: int) -> None:
            super().__init__(seed)
            for name in list(vars(self)):
                vars(self)[name] = [vars(self)[name]]

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            return value[0] if name in ("python", "numpy", "legacy", "torch") else value

    def make() -> MixNNDataLoader:
        return MixNNDataLoader(DataLoader(Points(), batch_sampler=Hidden(1)), mlp())

    loader = make()
    list(loader)
    batches = iter(loader)
    next(batches)
    other = make()
    other.load_state_dict(loader.state_dict())
    with pytest.warns(
        UserWarning, match=r"batch sampler Hidden drew other batches than in the saved run.*state_dict\(\)"
    ):
        next(iter(other))


def test_a_sampler_that_has_become_shorter() -> None:
    class Short(CountingBatches):
        def __iter__(self) -> Any:
            yield from list(super().__iter__())[:2]

    plain = DataLoader(Points(), batch_sampler=CountingBatches())
    loader = MixNNDataLoader(plain, mlp(), **SETTINGS)
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    other = MixNNDataLoader(DataLoader(Points(), batch_sampler=Short()), mlp(), **SETTINGS)
    other.load_state_dict(loader.state_dict())
    with pytest.raises(RuntimeError, match=r"of which 3 batches had been drawn, this loader's batch sampler gives 2"):
        next(iter(other))


@pytest.mark.parametrize("version", [0, STATE_VERSION + 1, "4", None])
def test_states_of_other_versions_are_refused(version: Any) -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8)
    with pytest.raises(ValueError, match=rf"of version {version}, this library reads {STATE_VERSION}; load it with"):
        loader.load_state_dict({**loader.state_dict(), "version": version})


def test_an_epoch_of_short_passes_is_estimated_once_before_and_after_a_stop() -> None:
    def make() -> tuple[MixNNDataLoader, Any]:
        model = mlp()
        return MixNNDataLoader(Points(), model, batch_size=4, warmup_epochs=0), model

    def two_batches(loader: MixNNDataLoader) -> None:
        for number, _ in enumerate(loader):
            if number == 2:
                break

    loader, model = make()
    two_batches(loader)
    estimated = loader.clean_probability.clone()
    with torch.no_grad():
        model.head.weight.add_(1)
    again, same_model = make()
    same_model.load_state_dict(model.state_dict())
    again.load_state_dict(loader.state_dict())
    two_batches(again)
    assert torch.equal(again.clean_probability, estimated)
