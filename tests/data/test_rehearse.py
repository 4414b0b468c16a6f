"""Batches that are loaded once, before they are needed."""

import os
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from toy import Points, Samples

from mixnn_loader.data.rehearse import load_once

BATCHES = [np.array([3, 1]), np.array([[0, 5], [7, 2], [9, 9]]), np.array([4])]
PLACES = [[3, 1], [0, 7, 9, 5, 2, 9], [4]]
"""The originals of a batch and then their neighbors."""


class Where(Dataset[Any]):
    """Says in which process a sample was loaded, and what the random streams gave there."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[int, int, float]:
        return index, os.getpid(), random.random() + np.random.rand() + float(torch.rand(()))


class AllAtOnce(Points):
    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.inputs[indices], self.labels[indices]


def take_all(samples: Any) -> Any:
    """Fit only what a ``__getitems__`` gives that has collated already."""
    inputs, labels = samples
    return inputs, labels


def streams() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), float(torch.rand(()))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_come_as_they_will(num_workers: int) -> None:
    points = Points(10)
    loaded = load_once(DataLoader(points, num_workers=num_workers), points, BATCHES, seed=0)
    assert len(loaded) == 3
    for batch, places in zip(loaded, PLACES, strict=True):
        inputs, labels = batch.samples
        assert torch.equal(inputs, points.inputs[places])
        assert torch.equal(labels, points.labels[places])


def test_one_worker_loads_where_there_are_workers() -> None:
    loaded = load_once(DataLoader(Where(), num_workers=2, persistent_workers=True), Where(), BATCHES, seed=0)
    processes = {process for _, of_batch, _ in (batch.samples for batch in loaded) for process in of_batch.tolist()}
    assert len(processes) == 1
    assert processes != {os.getpid()}
    _, of_batch, _ = load_once(DataLoader(Where()), Where(), BATCHES, seed=0)[0].samples
    assert set(of_batch.tolist()) == {os.getpid()}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_random_streams_of_the_user_are_left_alone(num_workers: int) -> None:
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(Where(), num_workers=num_workers, generator=generator)
    before = generator.get_state()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = streams()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    first, again, other = (load_once(loader, Where(), BATCHES, seed) for seed in (0, 0, 1))
    assert streams() == expected
    assert torch.equal(generator.get_state(), before)
    drawn = [[batch.samples[2].tolist() for batch in loaded] for loaded in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    flat = [number for batch in drawn[0] for number in batch]
    assert len(set(flat)) == len(flat)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_cannot_be_loaded_shows(num_workers: int) -> None:
    points = Points(10)
    loader = DataLoader(points, num_workers=num_workers)
    with pytest.raises(RuntimeError, match=r"equal size|not resizable"):
        load_once(loader, Samples([(torch.zeros(place), 0) for place in range(10)]), BATCHES, seed=0)
    fits_all = DataLoader(points, num_workers=num_workers, collate_fn=take_all)
    with pytest.raises(ValueError, match="too many values to unpack"):
        load_once(fits_all, points, [np.arange(4)], seed=0)
    with pytest.raises(IndexError):
        load_once(loader, Samples([]), BATCHES, seed=0)


def test_a_dataset_that_collates_is_asked_for_all_samples() -> None:
    points = AllAtOnce(10)
    [batch] = load_once(DataLoader(points, collate_fn=take_all), points, [np.arange(4)], seed=0)
    inputs, labels = batch.samples
    assert torch.equal(inputs, points.inputs[:4])
    assert torch.equal(labels, points.labels[:4])


def test_an_empty_batch_is_the_matter_of_the_collate_fn() -> None:
    none = np.empty(0, dtype=np.int64)
    loaded = load_once(DataLoader(Points(), collate_fn=list), Points(), [none, none.reshape(0, 3)], seed=0)
    assert [batch.samples for batch in loaded] == [[], []]
    with pytest.raises(IndexError):
        load_once(DataLoader(Points(), collate_fn=default_collate), Points(), [none], seed=0)
