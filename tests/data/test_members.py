"""Which samples are training data."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from toy import Points

from mixnn_loader.data.members import declared_members, given_members, listed_batches, makes_own_batches
from mixnn_loader.datasets import ClassBalancedBatchSampler

POINTS = Points(10)
ALL = list(range(10))
NAMES: Any = ["a", "b"]


def declared(**arguments: Any) -> list[int] | None:
    members = declared_members(DataLoader(POINTS, **arguments))
    if members is None:
        return None
    assert members.dtype == np.int64
    return [int(index) for index in members]


class Halves(Sampler[int]):
    """Type unknown: only it can tell what it draws."""

    def __init__(self) -> None:
        self.iterated = 0

    def __iter__(self) -> Iterator[int]:
        self.iterated += 1
        return iter(range(5))

    def __len__(self) -> int:
        return 5


class Reversed(SubsetRandomSampler):
    def __iter__(self) -> Iterator[int]:
        return iter([9 - index for index in self.indices])


class Named(SubsetRandomSampler):
    """A subclass that draws as its base does."""

    name = "training"


class Pairs(BatchSampler):
    def __iter__(self) -> Iterator[list[int]]:
        return iter([[0, 9]])


class Drifting(list[int]):
    def __iter__(self) -> Iterator[int]:
        return iter([7])


@pytest.mark.parametrize(
    ("sampler", "members"),
    [
        (None, ALL),
        (SequentialSampler(POINTS), ALL),
        (SequentialSampler(Subset(POINTS, [3, 4])), [0, 1]),
        (RandomSampler(POINTS, num_samples=3), ALL),
        (RandomSampler(range(4)), [0, 1, 2, 3]),
        (RandomSampler(range(400), replacement=True), ALL),
        (SubsetRandomSampler([7, 2, 2, 5]), [2, 5, 7]),
        (SubsetRandomSampler([]), []),
        (Named([7, 2]), [2, 7]),
        (WeightedRandomSampler([1.0, 0.0] * 5, 20), [0, 2, 4, 6, 8]),
        (DistributedSampler(POINTS, num_replicas=3, rank=1), ALL),
        ([4, 1, 1], [1, 4]),
        ((4, 1), [1, 4]),
        (range(9, 3, -2), [5, 7, 9]),
        (np.array([4, 1], dtype=np.uint8), [1, 4]),
        ([np.int32(4), torch.tensor(1)], [1, 4]),
        (torch.tensor([4, 1]), [1, 4]),
        ([4, 40], [4]),
    ],
)
def test_a_known_sampler_says_what_it_can_draw(sampler: Any, members: list[int]) -> None:
    assert declared(sampler=sampler, batch_size=3) == members
    if sampler is not None:
        assert declared(batch_sampler=BatchSampler(sampler, 2, drop_last=True)) == members


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_the_indices_of_a_subset_may_be_of_any_kind(kind: Any) -> None:
    assert declared(sampler=SubsetRandomSampler(kind([7, 2, 2]))) == [2, 7]


@pytest.mark.parametrize(
    "sampler",
    [
        Halves(),
        Reversed([1, 2]),
        Drifting([1, 2]),
        iter([1, 2]),
        {1, 2},
        ["a", "b"],
        [1.0, 2.0],
        np.array([1.0, 2.0]),
        torch.tensor([1.0, 2.0]),
        torch.tensor([1.0], dtype=torch.bfloat16),
        np.array([[1, 2]]),
        torch.tensor([True, False]),
        SubsetRandomSampler(NAMES),
    ],
)
def test_another_says_nothing(sampler: Any) -> None:
    assert declared(sampler=sampler) is None


def test_nothing_is_drawn_to_know() -> None:
    sampler, state = Halves(), torch.get_rng_state()
    assert declared(sampler=sampler) is None
    assert declared(shuffle=True) == ALL
    assert sampler.iterated == 0
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("batch_sampler", "members"),
    [
        ([[4, 1], [1]], [1, 4]),
        (([4, 1], (2,), range(1), np.array([3]), torch.tensor([5, 6])), [0, 1, 2, 3, 4, 5, 6]),
        (np.array([[4, 1], [0, 1]]), [0, 1, 4]),
        (torch.tensor([[4, 1], [0, 1]]), [0, 1, 4]),
        ([], []),
        ([[]], []),
        ([[4, 1], ["a"]], None),
        ([4, 1], None),
        (Pairs(SequentialSampler(POINTS), 2, drop_last=False), None),
        (iter([[1, 2]]), None),
    ],
)
def test_batches_that_the_user_makes(batch_sampler: Any, members: list[int] | None) -> None:
    assert declared(batch_sampler=batch_sampler) == members
    assert makes_own_batches(DataLoader(POINTS, batch_sampler=batch_sampler))


def test_the_balanced_batches_of_this_library_say_it_too() -> None:
    assert declared(batch_sampler=ClassBalancedBatchSampler([0, 1, 1, 0, 2, 0, 1, 0, 0, 2], 2, 3)) == ALL


def test_a_list_of_batches_says_where_each_sample_is() -> None:
    def listed(batch_sampler: Any) -> list[int] | None:
        batch_of = listed_batches(DataLoader(POINTS, batch_sampler=batch_sampler))
        return None if batch_of is None else batch_of.tolist()

    assert listed([[3, 1], torch.tensor([9, 3])]) == [-1, 0, -1, 1, -1, -1, -1, -1, -1, 1]
    assert listed([[3, 1], Halves()]) is None
    assert listed(BatchSampler(ALL, 2, drop_last=False)) is None


def test_batches_of_torch_are_not_the_users() -> None:
    for loader in (
        DataLoader(POINTS, batch_size=2),
        DataLoader(POINTS, sampler=Halves()),
        DataLoader(POINTS, batch_sampler=BatchSampler(Halves(), 2, drop_last=False)),
    ):
        assert not makes_own_batches(loader)


@pytest.mark.parametrize(
    "members",
    [
        [7, 2, 2],
        (7, 2),
        range(2, 8, 5),
        np.array([7, 2], dtype=np.uint16),
        torch.tensor([7, 2]),
        torch.tensor([7, 2], dtype=torch.int32),
        [torch.tensor(7), torch.tensor(2)],
        [index in (2, 7) for index in range(10)],
        np.isin(np.arange(10), [2, 7]),
        torch.isin(torch.arange(10), torch.tensor([2, 7])),
    ],
)
def test_members_may_be_given_as_indices_or_as_a_mask(members: Any) -> None:
    checked = given_members(members, 10)
    assert checked.dtype == np.int64
    assert checked.tolist() == [2, 7]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "got none; leave the argument out"),
        (torch.tensor([], dtype=torch.int64), "got none; leave the argument out"),
        (7, "got 7; pass a list"),
        ("seven", "got 'seven'; pass a list"),
        ({1, 2}, r"got {1, 2}; pass a list"),
        ([[1], [1, 2]], r"got \[\[1\], \[1, 2\]\]; pass a list"),
        ([[1, 2]], r"got list of int64 and shape \(1, 2\); pass a list"),
        (torch.tensor([1.0]), r"got Tensor of float32 and shape \(1,\); pass a list"),
        (torch.tensor([1.0], dtype=torch.bfloat16), r"got tensor\(\[1.\], dtype=torch.bfloat16\); pass a list"),
        (["1"], r"got list of <U1 and shape \(1,\); pass a list"),
        ([3, 10], r"got the index 10 for a dataset of 10 samples; indices are in 0\.\.9"),
        ([-1], "got the index -1 for a dataset of 10 samples"),
        ([True] * 9, "got a mask of 9 for 10 samples; give it one entry a sample"),
        ([False] * 10, "got a mask without a True"),
    ],
)
def test_other_members_are_refused(members: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^members must be the dataset indices.*{message}"):
        given_members(members, 10)
