"""Epochs of a fixed number of batches with balanced classes."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mixnn_loader import MixNNDataLoader, MixNNLoss
from mixnn_loader.datasets import ClassBalancedBatchSampler


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(
    labels=st.lists(st.sampled_from([0, 1, 2, 5]), min_size=1, max_size=40),
    batch_size=st.integers(1, 9),
    num_batches=st.integers(1, 12),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None)
def test_every_epoch_is_balanced_over_classes_and_over_the_samples_of_a_class(
    labels: list[int], batch_size: int, num_batches: int, seed: int
) -> None:
    sampler = ClassBalancedBatchSampler(labels, batch_size, num_batches, generator=seeded(seed))
    for _ in range(2):
        batches = list(sampler)
        assert len(batches) == len(sampler) == num_batches
        assert {len(batch) for batch in batches} == {batch_size}
        drawn = Counter(index for batch in batches for index in batch)
        assert set(drawn) <= set(range(len(labels)))
        by_class = Counter(dict.fromkeys(labels, 0))
        for index, count in drawn.items():
            by_class[labels[index]] += count
        assert max(by_class.values()) - min(by_class.values()) <= 1
        for label in by_class:
            counts = [drawn[index] for index in range(len(labels)) if labels[index] == label]
            assert max(counts) - min(counts) <= 1, "none again before all have been drawn"


@given(seed=st.integers(0, 2**32), kind=st.sampled_from([list, np.array, torch.tensor]))
@settings(deadline=None, max_examples=20)
def test_the_same_seed_gives_the_same_epochs_which_differ(seed: int, kind: Any) -> None:
    labels = kind([0] * 30 + [1] * 10)
    first, second = (ClassBalancedBatchSampler(labels, 5, 4, generator=seeded(seed)) for _ in range(2))
    epochs = [list(first) for _ in range(3)]
    assert [list(second) for _ in range(3)] == epochs
    assert epochs[0] != epochs[1]


def test_a_class_is_not_drawn_in_one_piece() -> None:
    sampler = ClassBalancedBatchSampler([0] * 500 + [1] * 500, 50, 10, generator=seeded())
    for batch in sampler:
        assert 10 < sum(index < 500 for index in batch) < 40


def test_without_a_generator_it_follows_the_global_one() -> None:
    sampler = ClassBalancedBatchSampler([0, 1] * 20, 4, 3)
    torch.manual_seed(0)
    first, second = list(sampler), list(sampler)
    torch.manual_seed(0)
    assert list(sampler) == first
    assert first != second


def test_in_a_data_loader() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    sampler = ClassBalancedBatchSampler(labels, 8, 5, generator=seeded())
    loader = DataLoader(TensorDataset(torch.arange(100), labels), batch_sampler=sampler)
    drawn = torch.cat([batch_labels for _, batch_labels in loader])
    assert len(loader) == 5
    assert drawn.bincount().tolist() == [20, 20]


def mixnn_loader(seed: int = 0) -> MixNNDataLoader:
    """Make a loader of 40 samples, of which four are of class 1, and five batches of 8 an epoch."""
    labels = torch.tensor([0] * 36 + [1] * 4)
    data = TensorDataset(torch.randn(40, 3, generator=seeded()), labels)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    sampler = ClassBalancedBatchSampler(labels, 8, 5, generator=seeded(seed))
    return MixNNDataLoader(DataLoader(data, batch_sampler=sampler), model, warmup_epochs=1, correction_epoch=2)


def epoch_of(loader: MixNNDataLoader) -> tuple[list[int], list[int]]:
    """Go through an epoch; return dataset indices and given labels."""
    indices, labels = list[int](), list[int]()
    for batch in loader:
        MixNNLoss()(torch.zeros(8, 2), batch)
        indices += batch.targets.indices.tolist()
        labels += batch.targets.labels.tolist()
    return indices, labels


def test_with_mixnn_epochs_are_balanced_and_as_long_as_they_should_be() -> None:
    loader = mixnn_loader()
    assert len(loader) == 5
    for _ in range(4):
        assert sorted(epoch_of(loader)[1]) == [0] * 20 + [1] * 20
    assert [record["phase"] for record in loader.history] == ["warm-up", "mixing", "correction", "correction"]


def test_with_mixnn_a_run_goes_on_with_the_epochs_that_it_would_have_had() -> None:
    whole = mixnn_loader()
    for _ in range(2):
        epoch_of(whole)
    state = whole.state_dict()
    resumed = mixnn_loader(seed=7)
    resumed.load_state_dict(state)
    assert epoch_of(resumed) == epoch_of(whole)


@pytest.mark.parametrize(
    ("labels", "batch_size", "num_batches", "message"),
    [
        ([], 4, 1, r"labels must have shape \(N,\) with N >= 1"),
        ([[0, 1]], 4, 1, r"labels must have shape \(N,\) with N >= 1, got \(1, 2\)"),
        ([0], 0, 1, "batch_size must be an integer >= 1, got 0"),
        ([0], 4, 0, "num_batches must be an integer >= 1, got 0"),
    ],
)
def test_bad_arguments(labels: Any, batch_size: int, num_batches: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassBalancedBatchSampler(labels, batch_size, num_batches)
