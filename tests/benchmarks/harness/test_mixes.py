"""Who was mixed with whom, counted by hand."""

import pytest
import torch
from torch import Tensor

from benchmarks.harness.mixes import MixesSeen
from mixnn_loader import MixNNBatch, MixNNTargets

TRUE = torch.tensor([0, 0, 1, 1, 2])
GIVEN = torch.tensor([0, 1, 1, 0, 2])  # samples 1 and 3 are mislabeled


def batch_of(groups: Tensor) -> MixNNBatch:
    shape = groups.shape
    targets = MixNNTargets(torch.zeros(*shape, 3), torch.full(shape, 1 / shape[1]), GIVEN[groups[:, 0]], groups)
    return MixNNBatch(torch.zeros(shape[0], 1), targets)


def test_counts_pairs_of_one_class_and_mixes_of_wrong_labels_only() -> None:
    seen = MixesSeen(TRUE, GIVEN)
    seen.observe(batch_of(torch.tensor([[0, 1, 2], [1, 3, 3]])))  # true classes 0 0 1 and 0 1 1; labels ok, all wrong
    seen.observe(batch_of(torch.tensor([[4, 4, 0]])))  # itself is no neighbor
    assert seen.figures() == {
        "same_class": pytest.approx(100 * 1 / 5),  # (0, 1) of (0, 1), (0, 2), (1, 3) twice and (4, 0)
        "worst_case": pytest.approx(100 * 1 / 3),
    }


def test_starts_anew_with_every_epoch() -> None:
    seen = MixesSeen(TRUE, GIVEN)
    seen.observe(batch_of(torch.tensor([[0, 1]])))
    seen.figures()
    assert seen.figures() == {"same_class": None, "worst_case": None}


def test_what_is_not_mixed_does_not_count() -> None:
    seen = MixesSeen(TRUE, GIVEN)
    seen.observe(batch_of(torch.tensor([[0], [1]])))
    seen.observe("a batch of another method")
    assert seen.figures() == {"same_class": None, "worst_case": None}
