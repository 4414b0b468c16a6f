"""Kinds of noise by name: each is the one of the library that it says."""

import pytest
import torch

from benchmarks.harness.noise import NOISES, corrupt, expected_rate
from mixnn_loader.noise import asymmetric_matrix, pairflip_matrix, symmetric_matrix

MATRICES = {
    ("symmetric", 10): symmetric_matrix(0.4, 10),
    ("symmetric-inclusive", 10): symmetric_matrix(0.4, 10, inclusive=True),
    ("pair", 10): pairflip_matrix(0.4, 10),
    ("asymmetric", 10): asymmetric_matrix(0.4, dataset="cifar10"),
    ("asymmetric", 100): asymmetric_matrix(0.4, dataset="cifar100"),
}


def test_every_kind_has_a_case() -> None:
    assert {noise for noise, _ in MATRICES} == set(NOISES)


@pytest.mark.parametrize(("noise", "num_classes"), MATRICES)
def test_labels_are_drawn_from_the_matrix_of_that_kind(noise: str, num_classes: int) -> None:
    labels = torch.arange(50 * num_classes) % num_classes
    first, same, other = (corrupt(labels, noise, 0.4, num_classes, seed=seed) for seed in (1, 1, 2))
    torch.testing.assert_close(first.matrix, MATRICES[noise, num_classes])
    assert torch.equal(first.labels, same.labels)
    assert not torch.equal(first.labels, other.labels)


def test_what_a_kind_has_no_meaning_for_is_refused() -> None:
    labels = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="asymmetric noise is that of CIFAR-10 and CIFAR-100, not of 2 classes"):
        corrupt(labels, "asymmetric", 0.4, 2, seed=0)
    with pytest.raises(ValueError, match=r"noise must be one of symmetric, .*, got 'loud'"):
        corrupt(labels, "loud", 0.4, 2, seed=0)


@pytest.mark.parametrize(
    ("noise", "expected"),
    [("symmetric", 0.4), ("pair", 0.4), ("symmetric-inclusive", 0.36), ("asymmetric", 0.2)],  # 5 of 10 classes change
)
def test_the_rate_that_methods_are_told_is_that_of_wrong_labels(noise: str, expected: float) -> None:
    labels = torch.arange(20_000) % 10
    noisy = corrupt(labels, noise, 0.4, 10, seed=0)
    assert expected_rate(labels, noisy) == expected
    assert noisy.actual_rate == pytest.approx(expected, abs=0.01)
