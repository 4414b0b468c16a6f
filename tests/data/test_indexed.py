"""Indices in, samples out."""

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from toy import Points, Samples

from mixnn_loader.data.indexed import (
    IndexBatch,
    IndexedCollate,
    IndexedDataset,
    NeighborBatchSampler,
    in_loaded_order,
    rebuilt,
)


class InOrder:
    """Batches of 0..count-1."""

    def __init__(self, count: int, size: int) -> None:
        self.batches = [np.arange(start, min(start + size, count)) for start in range(0, count, size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        return enumerate(self.batches)


def test_neighbors_are_added_to_the_users_batches() -> None:
    sampler = NeighborBatchSampler(InOrder(5, 2), seed=0)
    pool = np.array([[1, 2], [0, 2], [3, 4], [4, 2], [3, 2]])
    sampler.begin_epoch(3, lambda indices, _: pool[indices])
    batches = list(sampler)
    assert len(sampler) == 3
    assert [batch.number for batch in batches] == [0, 1, 2]
    assert [batch.groups.tolist() for batch in batches] == [
        [[0, 1, 2], [1, 0, 2]],
        [[2, 3, 4], [3, 4, 2]],
        [[4, 3, 2]],
    ]
    assert len({batch.neighbor_seed for batch in batches}) == 3


def test_originals_come_first_and_neighbors_after_them_in_order() -> None:
    data = IndexedDataset(Samples([f"sample {i}" for i in range(6)]))
    batch = IndexBatch(0, np.array([[4, 1, 2], [0, 3, 5]]), None, 7)
    loaded = IndexedCollate(list)(data.__getitems__(batch))
    assert loaded.samples == [f"sample {i}" for i in (4, 0, 1, 2, 3, 5)]
    assert loaded.groups.tolist() == [[4, 1, 2], [0, 3, 5]]
    assert in_loaded_order(loaded.groups).tolist() == in_loaded_order(batch.groups).tolist() == [4, 0, 1, 2, 3, 5]


def test_neighbors_draw_from_a_stream_of_their_own() -> None:
    class Drawing(Samples):
        def __getitem__(self, index: int) -> Any:
            return torch.rand(()).item()

    data = IndexedDataset(Drawing(range(6)))
    none = np.empty((2, 0), dtype=np.int64)

    def draw(neighbors: np.ndarray, seed: int) -> list[float]:
        torch.manual_seed(0)
        first = data.__getitems__(IndexBatch(0, np.column_stack([[0, 1], neighbors]), None, seed))[1]
        second = data.__getitems__(IndexBatch(1, np.column_stack([[2, 3], neighbors]), None, seed + 1))[1]
        return [*first[:2], *second[:2], *first[2:]]

    plain, with_neighbors = draw(none, 1), draw(np.array([[2], [3]]), 1)
    assert with_neighbors[:4] == plain
    assert with_neighbors[4:] == draw(np.array([[2], [3]]), 1)[4:] != draw(np.array([[2], [3]]), 5)[4:]


def test_the_dataset_shows_through() -> None:
    points = Points()
    data = IndexedDataset(points)
    assert data.labels is points.labels
    data.labels = torch.zeros(40)
    assert points.labels.sum() == 0
    assert len(data) == 40
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy.inputs, points.inputs)
    assert not hasattr(data, "no_such_thing")


def test_a_rebuilt_loader_has_the_users_settings() -> None:
    generator = torch.Generator()
    loader = DataLoader(
        Points(),
        batch_size=4,
        num_workers=2,
        prefetch_factor=5,
        persistent_workers=True,
        timeout=60,
        generator=generator,
    )
    inner = rebuilt(loader, loader.dataset, batch_sampler=NeighborBatchSampler(InOrder(40, 4), 0))
    assert (inner.num_workers, inner.prefetch_factor, inner.persistent_workers, inner.timeout) == (2, 5, True, 60)
    assert inner.generator is generator
    other = torch.Generator()
    other_batches = NeighborBatchSampler(InOrder(40, 8), 0)
    assert rebuilt(loader, loader.dataset, batch_sampler=other_batches, generator=other).generator is other


def test_a_batch_is_drawn_by_its_number_in_the_epoch_not_in_the_pass() -> None:
    def seeds(offset: int) -> list[int]:
        sampler = NeighborBatchSampler(InOrder(12, 2), seed=0)
        sampler.begin_epoch(3, offset=offset)
        return [batch.neighbor_seed for batch in sampler]

    assert seeds(0)[2:] == seeds(-2)[:-2]
