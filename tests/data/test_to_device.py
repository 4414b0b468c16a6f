"""Batches onto the model's device, one ahead of the training step."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mixnn_loader.data.indexed import LoadedBatch
from mixnn_loader.data.to_device import ReceivedBatch, Receiver
from mixnn_loader.data.unpack import resolve_unpack

CPU = torch.device("cpu")


def loaded(number: int, missing_rows: int = 0) -> LoadedBatch:
    """Two samples with a neighbor each."""
    indices = torch.tensor([2 * number, 2 * number + 1])
    inputs = torch.full((4 - missing_rows, 3), float(number))
    return LoadedBatch(number, indices, indices.flip(0).unsqueeze(1), (inputs, torch.arange(4)))


class Source:
    """Gives batches one by one and counts them; fails after the last one if told to."""

    def __init__(self, batches: list[LoadedBatch], error: Exception | None = None) -> None:
        self.batches = batches
        self.error = error
        self.fetched = 0

    def __iter__(self) -> Iterator[LoadedBatch]:
        for batch in self.batches:
            self.fetched += 1
            yield batch
        if self.error is not None:
            raise self.error


def receiver() -> Receiver:
    return Receiver(resolve_unpack(None), mixes=True)


def assert_same(actual: ReceivedBatch, expected: ReceivedBatch) -> None:
    assert actual.loaded is expected.loaded
    for name in ("inputs", "labels", "rows"):
        assert torch.equal(getattr(actual, name), getattr(expected, name))


def test_rows_are_the_samples_and_then_their_neighbors() -> None:
    received = receiver().receive(loaded(3), CPU)
    assert received.rows.tolist() == [6, 7, 7, 6]
    assert received.inputs.tolist() == [[3.0] * 3] * 4
    assert received.labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_one_ahead_gives_what_receive_gives_in_order(count: int) -> None:
    batches = [loaded(number) for number in range(count)]
    ahead = list(receiver().one_ahead(Source(batches), CPU))
    assert len(ahead) == count
    for actual, batch in zip(ahead, batches, strict=True):
        assert_same(actual, receiver().receive(batch, CPU))


def test_one_batch_more_than_was_consumed_has_been_fetched() -> None:
    source = Source([loaded(number) for number in range(4)])
    ahead = receiver().one_ahead(source, CPU)
    assert source.fetched == 0
    assert [source.fetched for _ in ahead] == [2, 3, 4, 4]


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
def test_an_error_of_the_source_comes_behind_the_whole_batches(count: int) -> None:
    source = Source([loaded(number) for number in range(count)], OSError("the disk has gone"))
    assert numbers_until(OSError, "the disk has gone", source) == list(range(count))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_error_in_a_batch_comes_behind_the_whole_batches(count: int) -> None:
    source = Source([*(loaded(number) for number in range(count)), loaded(count, missing_rows=1), loaded(count + 1)])
    assert numbers_until(ValueError, "a row for each of its 4 samples", source) == list(range(count))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_one_ahead_gives_the_same_on_a_gpu() -> None:
    def pinned(number: int) -> LoadedBatch:
        samples: Any = tuple(part.pin_memory() for part in loaded(number).samples)
        return loaded(number)._replace(samples=samples)

    cuda = torch.device("cuda")
    ahead = receiver().one_ahead([pinned(number) for number in range(5)], cuda)
    for number, received in enumerate(ahead):
        expected = receiver().receive(loaded(number), CPU)
        assert received.inputs.device.type == received.rows.device.type == "cuda"
        assert torch.equal(received.inputs.cpu(), expected.inputs)
        assert torch.equal(received.rows.cpu(), expected.rows)
