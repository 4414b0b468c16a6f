"""Labels and indices of every kind that users have."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mixnn_loader._utils.integers import as_integers
from mixnn_loader.datasets import ClassBalancedBatchSampler
from mixnn_loader.datasets.in_memory import InMemoryDataset

FILTERED = pd.Series([5, 2, 0, 1])[lambda values: values < 5]
"""As train_test_split leaves them: the index has no 0."""


@pytest.mark.parametrize(
    "values",
    [
        [2, 0, 1],
        (2, 0, 1),
        np.array([2, 0, 1], dtype=np.uint8),
        torch.tensor([2, 0, 1], dtype=torch.int32),
        [np.int16(2), torch.tensor(0), 1],
        FILTERED,
    ],
)
def test_every_kind_of_integers(values: Any) -> None:
    found = as_integers("labels", values)
    assert found.dtype == np.int64
    assert found.tolist() == [2, 0, 1]
    assert InMemoryDataset(torch.zeros(3), values).targets.tolist() == [2, 0, 1]
    assert len(list(ClassBalancedBatchSampler(values, 3, 2))) == 2


@pytest.mark.parametrize("values", [[0.0, 1.5, 2.0], np.ones(3), torch.tensor([True, False, True]), ["0", "1", "2"]])
def test_nothing_is_rounded(values: Any) -> None:
    with pytest.raises(TypeError, match="labels must be integers, got"):
        as_integers("labels", values)
    with pytest.raises(TypeError, match="targets must be integers, got"):
        InMemoryDataset(torch.zeros(3), values)
    with pytest.raises(TypeError, match="labels must be integers, got"):
        ClassBalancedBatchSampler(values, 3, 2)


def test_none_at_all_are_of_any_type() -> None:
    assert as_integers("drop", []).dtype == np.int64
