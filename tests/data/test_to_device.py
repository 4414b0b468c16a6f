"""Batches onto the model's device, one ahead of the training step."""

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mixnn_loader.data.indexed import LoadedBatch
from mixnn_loader.data.to_device import ReceivedBatch, Receiver
from mixnn_loader.data.unpack import resolve_unpack
from mixnn_loader.method.input_rules import InputRules

CPU = torch.device("cpu")


def loaded(number: int, missing_rows: int = 0) -> LoadedBatch:
    """Two samples with a neighbor each."""
    indices = torch.tensor([2 * number, 2 * number + 1])
    inputs = torch.full((4 - missing_rows, 3), float(number))
    return LoadedBatch(number, torch.stack([indices, indices.flip(0)], dim=1), (inputs, torch.arange(4)))


class Source:
    """Gives batches one by one, keeps none of them, and counts them; fails after the last one if told to."""

    def __init__(self, batches: list[LoadedBatch], error: Exception | None = None) -> None:
        self.batches = batches
        self.error = error
        self.fetched = 0

    def __iter__(self) -> Iterator[LoadedBatch]:
        while self.batches:
            self.fetched += 1
            yield self.batches.pop(0)
        if self.error is not None:
            raise self.error


def receiver() -> Receiver:
    return Receiver(resolve_unpack(None), InputRules())


def assert_same(actual: ReceivedBatch, expected: ReceivedBatch) -> None:
    assert actual.loaded.number == expected.loaded.number
    for name in ("inputs", "labels", "groups"):
        assert torch.equal(getattr(actual, name), getattr(expected, name))


def test_groups_are_the_samples_and_their_neighbors() -> None:
    received = receiver().receive(loaded(3), CPU)
    assert received.groups.tolist() == [[6, 7], [7, 6]]
    assert received.inputs.tolist() == [[3.0] * 3] * 4
    assert received.labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_one_ahead_gives_what_receive_gives_in_order(count: int) -> None:
    batches = [loaded(number) for number in range(count)]
    ahead = list(receiver().one_ahead(batches, CPU))
    in_turn = list(receiver().in_turn(batches, CPU))
    assert len(ahead) == len(in_turn) == count
    for actual, other, batch in zip(ahead, in_turn, batches, strict=True):
        assert_same(actual, receiver().receive(batch, CPU))
        assert_same(other, actual)


def test_one_batch_more_than_was_consumed_has_been_fetched() -> None:
    source = Source([loaded(number) for number in range(4)])
    ahead = receiver().one_ahead(source, CPU)
    assert source.fetched == 0
    assert [source.fetched for _ in ahead] == [2, 3, 4, 4]


def test_the_batch_asked_for_is_the_last_one_fetched_in_turn() -> None:
    source = Source([loaded(number) for number in range(4)])
    assert [source.fetched for _ in receiver().in_turn(source, CPU)] == [1, 2, 3, 4]


@pytest.mark.parametrize(("pass_over", "num_ahead"), [("in_turn", 0), ("one_ahead", 1)])
@pytest.mark.parametrize("fails", [False, True])
def test_a_batch_that_its_user_has_dropped_is_gone(pass_over: str, num_ahead: int, *, fails: bool) -> None:
    batches = [loaded(number) for number in range(4)]
    of_samples = [weakref.ref(batch.samples[0]) for batch in batches]
    copied: list[weakref.ref[Tensor]] = []

    def unpack(samples: Any) -> tuple[Tensor, Tensor]:
        inputs, labels = samples[0] + 1, samples[1]  # stands for the copy on the device
        copied.append(weakref.ref(inputs))
        return inputs, labels

    source = Source(batches, OSError("the disk has gone") if fails else None)
    del batches
    passed = iter(getattr(Receiver(unpack, InputRules()), pass_over)(source, CPU))
    for number in range(4):
        received = next(passed)
        fetched = min(number + 1 + num_ahead, 4)
        assert [ref() is None for ref in of_samples] == [True] * fetched + [False] * (4 - fetched)
        assert [ref() is None for ref in copied] == [True] * number + [False] * (fetched - number)
        inputs = received.inputs
        del received
        assert copied[number]() is inputs
        del inputs
        assert copied[number]() is None  # while the pass waits to be asked for the next


def test_of_the_samples_only_inputs_and_labels_are_kept() -> None:
    batch = loaded(0)
    received = receiver().receive(batch, CPU)
    assert received.loaded.samples is None
    assert received.inputs is batch.samples[0]
    assert received.loaded.groups is batch.groups


def test_an_empty_batch_passes() -> None:
    empty = torch.empty(0, dtype=torch.int64)
    samples = torch.empty(0, 3), torch.empty(0, dtype=torch.int64)
    batch = LoadedBatch(0, empty.reshape(0, 2), samples)
    for received in (receiver().receive(batch, CPU), next(receiver().one_ahead([batch], CPU))):
        assert received.inputs.shape == (0, 3)
        assert received.groups.shape == (0, 2)


@pytest.mark.parametrize("pinned", [False, True])
def test_copies_to_a_gpu_do_not_block(monkeypatch: pytest.MonkeyPatch, *, pinned: bool) -> None:
    asked: list[bool] = []
    allocated: list[Tensor] = []
    empty_like = torch.empty_like

    def to(self: Tensor, device: torch.device, *, non_blocking: bool = False) -> Tensor:
        assert device.type == "cuda"
        asked.append(non_blocking)
        return self

    def allocate(tensor: Tensor, *, pin_memory: bool) -> Tensor:
        assert pin_memory
        allocated.append(empty_like(tensor))
        return allocated[-1]

    monkeypatch.setattr(Tensor, "to", to)
    monkeypatch.setattr(Tensor, "is_pinned", lambda _: pinned)
    monkeypatch.setattr(torch, "empty_like", allocate)
    received = receiver().receive(loaded(3), torch.device("cuda"))
    assert asked == [True, True]
    assert len(allocated) == (0 if pinned else 2)
    assert received.inputs.tolist() == [[3.0] * 3] * 4
    assert received.groups.tolist() == [[6, 7], [7, 6]]


def numbers_until(error: type[Exception], match: str, source: Source) -> list[int]:
    """The batches that come before the error."""
    ahead = receiver().one_ahead(source, CPU)
    numbers: list[int] = []

    def consume() -> None:
        numbers.extend(batch.loaded.number for batch in ahead)

    with pytest.raises(error, match=match):
        consume()
    return numbers


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_error_of_the_source_comes_after_the_whole_batches(count: int) -> None:
    source = Source([loaded(number) for number in range(count)], OSError("the disk has gone"))
    assert numbers_until(OSError, "the disk has gone", source) == list(range(count))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_error_in_a_batch_comes_after_the_whole_batches(count: int) -> None:
    source = Source([*(loaded(number) for number in range(count)), loaded(count, missing_rows=1), loaded(count + 1)])
    assert numbers_until(ValueError, "a row for each of its 4 samples", source) == list(range(count))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_one_ahead_gives_the_same_on_a_gpu() -> None:
    def maybe_pinned(number: int) -> LoadedBatch:
        samples: Any = tuple(part.pin_memory() if number % 2 else part for part in loaded(number).samples)
        return loaded(number)._replace(samples=samples)

    cuda = torch.device("cuda")
    ahead = receiver().one_ahead((maybe_pinned(number) for number in range(5)), cuda)
    for number, received in enumerate(ahead):
        expected = receiver().receive(loaded(number), CPU)
        assert received.inputs.device.type == received.groups.device.type == "cuda"
        assert torch.equal(received.inputs.cpu(), expected.inputs)
        assert torch.equal(received.groups.cpu(), expected.groups)
