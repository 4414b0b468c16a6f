"""The indices of a batch: where each sample stands first, how often, and that they travel once."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixnn_loader._utils.batch_indices import BatchIndices

META = torch.device("meta")  # a device that every machine has, and is not the host


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=20))
def test_where_each_sample_stands_first_and_how_often(indices: list[int]) -> None:
    batch = BatchIndices(torch.tensor(indices, dtype=torch.int64))
    assert len(batch) == len(indices)
    if len(set(indices)) == len(indices):
        assert batch.first is None
        assert batch.counts is None
    else:
        assert batch.first is not None
        assert batch.counts is not None
        assert batch.first.host.tolist() == [indices.index(index) for index in indices]
        assert batch.counts.tolist() == [indices.count(index) for index in indices]


def test_they_travel_once() -> None:
    batch = BatchIndices(torch.tensor([7, 3, 7]))
    assert batch.on(torch.device("cpu")) is batch.host
    assert batch.on(META) is batch.on(META)
    assert batch.on(META).device == META
    assert batch.first is not None
    assert batch.first.on(META) is batch.first.on(META)


def test_what_is_there_already_is_not_sent() -> None:
    host, there = torch.tensor([7, 3]), torch.tensor([7, 3], device="meta")
    assert BatchIndices(host, there).on(META) is there
