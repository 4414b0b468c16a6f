"""The probability of each label by its neighbors' votes: against NumPy and scikit-learn, and on labels known to lie."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from posterior_reference import label_posterior as reference
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

from mixnn_loader.method.posterior import label_posterior, non_decreasing
from mixnn_loader.noise import pairflip, symmetric

NUM_VOTERS = 200


@pytest.mark.parametrize("num_classes", [2, 3, 10])
@pytest.mark.parametrize("num_samples", [1, 2, 7, 60, 3000])
def test_against_numpy_and_scikit_learn(num_samples: int, num_classes: int) -> None:
    generator = torch.Generator().manual_seed(num_samples + num_classes)
    # Votes are whole numbers, so that the order of equal ones matters.
    counts = torch.randint(9, (num_samples, num_classes), generator=generator) + 1.0
    shares, labels = counts / counts.sum(dim=1, keepdim=True), torch.randint(num_classes, (num_samples,))
    found = label_posterior(shares, labels)
    probabilities, rate, transition, trust = reference(shares.double().numpy(), labels.numpy())
    np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-5)
    np.testing.assert_allclose(found.noise_rate, rate, atol=1e-6)
    np.testing.assert_allclose(found.transition, transition, atol=1e-6)
    np.testing.assert_allclose(found.trust, trust, atol=1e-4)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=700))
def test_the_nearest_non_decreasing_sequence(values: list[float]) -> None:
    bins = np.array_split(np.array(values), max(1, len(values) // 50))
    sizes, means = [len(part) for part in bins], [part.mean() for part in bins]
    expected = np.repeat(IsotonicRegression().fit_transform(np.arange(len(bins)), means, sample_weight=sizes), sizes)
    np.testing.assert_allclose(non_decreasing(torch.tensor(values)), expected, atol=1e-6)


def votes_of(true: Tensor, given_labels: Tensor, wrong_kind: float, num_classes: int) -> Tensor:
    """What neighbors say of whom the share `wrong_kind`, another one of each sample, is of some other class."""
    generator = torch.Generator().manual_seed(1)
    mixed = wrong_kind * torch.rand(len(true), 1, generator=generator)
    other = (true + 1 + torch.randint(num_classes - 1, (len(true),), generator=generator)) % num_classes
    kinds = torch.rand(len(true), NUM_VOTERS, generator=generator) < mixed
    classes = torch.where(kinds, other.unsqueeze(1), true.unsqueeze(1))
    # A voter of a class has the label that some sample of this class was given.
    given_of = [given_labels[true == c] for c in range(num_classes)]
    labels = torch.empty_like(classes)
    for c, labels_of_class in enumerate(given_of):
        places = classes == c
        drawn = torch.randint(len(labels_of_class), (int(places.sum()),), generator=generator)
        labels[places] = labels_of_class[drawn]
    return torch.nn.functional.one_hot(labels, num_classes).float().mean(dim=1)


@pytest.mark.parametrize("kind", ["symmetric", "pair"])
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2, 0.4, 0.6, 0.8])
@pytest.mark.parametrize("wrong_kind", [0.0, 0.6])
def test_labels_that_are_known_to_lie(kind: str, rate: float, wrong_kind: float) -> None:
    if kind == "pair" and rate > 0.4:
        pytest.skip("more than half of a class cannot be told from it")
    num_classes = 10
    true = torch.arange(5000) % num_classes
    labels = (symmetric if kind == "symmetric" else pairflip)(true, rate, num_classes, seed=0).labels
    found = label_posterior(votes_of(true, labels, wrong_kind, num_classes), labels)
    actual = (labels != true).float().mean().item()
    # At most 3 points from the truth, up to 60 %; at 80 % one label in five tells little.
    assert found.noise_rate == pytest.approx(actual, abs=0.03 if rate <= 0.6 else 0.06)
    probabilities = found.probabilities
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(5000), atol=1e-5, rtol=0)
    right = probabilities.argmax(dim=1) == true
    assert right.float().mean() >= 1 - actual, "no worse than the labels as given"
    if rate > 0:
        assert right.float().mean() > 1 - 0.4 * actual, "and most of the wrong ones mended"
    # Calibrated: of the labels with a probability, that share is right.
    own = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
    bins, error = (own * 9.999).long(), 0.0
    for number in range(10):
        rows = bins == number
        if rows.any():
            error += (own[rows].sum() - (labels == true)[rows].sum()).abs().item() / len(true)
    assert error < (0.1 if wrong_kind else 0.05)


def test_what_is_given_for_what_is_found() -> None:
    true = torch.arange(5000) % 10
    labels = pairflip(true, 0.3, 10, seed=0).labels
    transition = label_posterior(votes_of(true, labels, 0.5, 10), labels).transition
    expected = 0.7 * torch.eye(10) + 0.3 * torch.eye(10).roll(1, dims=1)
    torch.testing.assert_close(transition, expected, atol=0.12, rtol=0)


def test_votes_are_trusted_as_far_as_they_err_less_than_labels() -> None:
    true = torch.arange(5000) % 10
    labels = symmetric(true, 0.4, 10, seed=0).labels
    trusts = [label_posterior(votes_of(true, labels, kind, 10), labels).trust for kind in (0.3, 0.6, 0.8)]
    assert trusts == sorted(trusts, reverse=True)
    assert trusts[0] > 0.9
    assert trusts[-1] < 0.3
    assert label_posterior(votes_of(true, true, 0.8, 10), true).trust == 0, "of labels without a mistake"


def test_votes_that_say_nothing_leave_the_labels_as_they_are() -> None:
    labels = torch.arange(500) % 5
    found = label_posterior(torch.full((500, 5), 0.2), labels)
    assert torch.equal(found.probabilities.argmax(dim=1)[labels != 0], labels[labels != 0])
