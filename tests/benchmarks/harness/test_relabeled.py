"""A dataset with other labels."""

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.harness.data.relabeled import Relabeled
from mixnn_loader.datasets.in_memory import InMemoryDataset


class OneByOne(Dataset[Any]):
    """Samples (number, its label), which cannot be asked for together."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[float, int]:
        return float(index), 7


@pytest.mark.parametrize("dataset", [OneByOne(), TensorDataset(torch.arange(4.0), torch.full((4,), 7))])
def test_inputs_stay_and_labels_are_the_new_ones(dataset: Any) -> None:
    relabeled = Relabeled(dataset, [3, 2, 1, 0])
    assert len(relabeled) == 4
    assert [(float(inputs), label) for inputs, label in (relabeled[i] for i in range(4))] == [
        (0, 3),
        (1, 2),
        (2, 1),
        (3, 0),
    ]
    inputs, labels = next(iter(DataLoader(relabeled, sampler=[2, 0], batch_size=2)))
    assert inputs.tolist() == [2, 0]
    assert labels.tolist() == [1, 3]


def test_batches_are_fetched_together_where_the_dataset_can() -> None:
    sizes: list[int] = []

    def note(inputs: torch.Tensor) -> torch.Tensor:
        sizes.append(len(inputs))
        return inputs

    relabeled = Relabeled(InMemoryDataset(torch.arange(6), [0] * 6, note), torch.arange(6) % 3)
    labels = [batch[1].tolist() for batch in DataLoader(relabeled, batch_size=4)]
    assert sizes == [4, 2]
    assert labels == [[0, 1, 2, 0], [1, 2]]


def test_as_many_labels_as_samples() -> None:
    with pytest.raises(ValueError, match="each of the 4 samples, got 3"):
        Relabeled(OneByOne(), [0, 1, 2])
