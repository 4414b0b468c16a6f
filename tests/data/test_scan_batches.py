"""The training set in batches, shared among processes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixnn_loader.data.scan_batches import ScanBatches

NUM_SAMPLES = 200


def batches_of(batches: ScanBatches) -> list[list[int]]:
    assert [number for number, _ in batches] == list(range(len(batches)))
    return [indices.tolist() for _, indices in batches]


@given(
    st.integers(0, 50),
    st.integers(1, 9),
    st.integers(1, 6),
    st.lists(st.integers(-1, 5), min_size=NUM_SAMPLES, max_size=NUM_SAMPLES),
    st.booleans(),
)
def test_processes_share_the_batches_of_a_single_one(
    num_members: int, batch_size: int, num_processes: int, numbers: list[int], own_batches: bool
) -> None:
    members = 3 * np.arange(num_members) + 1
    batch_of = np.array(numbers) if own_batches else None
    numbered: dict[int, list[int]] = {}
    lengths = []
    for rank in range(num_processes):
        batches = ScanBatches(np.arange(2), batch_size)
        batches.share(members, rank, num_processes, batch_of=batch_of)
        own = list(batches)
        assert len(batches) == len(own)
        assert [i for _, indices in own for i in indices.tolist()] == batches.own_indices().tolist()
        numbered |= {number: indices.tolist() for number, indices in own}
        lengths.append(len(own))
    single = ScanBatches(members, batch_size)
    single.share(members, 0, 1, batch_of=batch_of)
    assert [numbered[number] for number in sorted(numbered)] == batches_of(single)
    assert sorted(single.own_indices().tolist()) == members.tolist()
    assert sum(lengths) == len(single)
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(("num_members", "sizes"), [(0, []), (3, [3]), (8, [4, 4]), (9, [4, 4, 1])])
def test_batches_have_the_batch_size_and_the_last_what_is_left(num_members: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in batches_of(ScanBatches(np.arange(num_members), 4))] == sizes


def test_a_dataset_sorted_by_class_is_scanned_in_mixed_batches() -> None:
    classes = np.repeat(np.arange(10), 20)
    for batch in batches_of(ScanBatches(np.arange(NUM_SAMPLES), 20, seed=3)):
        assert len(set(classes[batch].tolist())) >= 5


def test_the_order_is_that_of_the_seed_in_every_epoch() -> None:
    members = np.arange(0, NUM_SAMPLES, 2)
    batches = ScanBatches(members, 16, seed=3)
    first = batches_of(batches)
    batches.share(members, 0, 1)
    assert batches_of(batches) == batches_of(ScanBatches(members, 16, seed=3)) == first
    assert batches_of(ScanBatches(members, 16, seed=4)) != first


def test_samples_drawn_together_are_scanned_together() -> None:
    batch_of = np.full(NUM_SAMPLES, -1)
    batch_of[:50] = 7  # more than the batch size
    batch_of[50:53] = 0
    batch_of[53] = 90_000  # batches are numbered through the epochs, or one process after the other
    batches = ScanBatches(np.arange(2), 8)
    members = np.arange(1, 64)
    batches.share(members, 0, 1, batch_of=batch_of)
    found = batches_of(batches)
    kinds = [{int(batch_of[i]) for i in batch} for batch in found]
    assert all(len(kind) == 1 for kind in kinds)
    assert sorted(map(len, found)) == [1, 2, 3, 8, 49]
    assert [len(batch) for batch, kind in zip(found, kinds, strict=True) if kind == {-1}] in ([8, 2], [2, 8])
    assert sorted(i for batch in found for i in batch) == members.tolist()


def test_own_batches_come_in_random_order() -> None:
    batch_of = np.arange(NUM_SAMPLES) // 10
    batches = ScanBatches(np.arange(2), 8, seed=1)
    batches.share(np.arange(NUM_SAMPLES), 0, 1, batch_of=batch_of)
    order = [int(batch_of[batch[0]]) for batch in batches_of(batches)]
    assert sorted(order) == list(range(20))
    assert order != sorted(order)
    batches.share(np.arange(NUM_SAMPLES), 0, 1, batch_of=batch_of)
    assert [int(batch_of[batch[0]]) for batch in batches_of(batches)] == order
