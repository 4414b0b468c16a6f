"""The probability of each label by its neighbors' votes: against NumPy and scikit-learn, and on labels known to lie."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from posterior_reference import isotonic
from posterior_reference import label_posterior as reference
from torch import Tensor

from mixnn_loader.method import posterior as module
from mixnn_loader.method.posterior import Posterior, label_posterior, non_decreasing
from mixnn_loader.method.votes import vote_shares
from mixnn_loader.noise import from_matrix, pairflip, symmetric

NUM_VOTERS = 200


def neighbors_of(true: Tensor, strays: float, k: int = NUM_VOTERS, seed: int = 1) -> Tensor:
    """Draw neighbors (n, k) of a sample's class, and a share of strays, up to so many, from all samples."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.empty(len(true), k, dtype=torch.int64)
    for c in range(int(true.max()) + 1):
        rows = (true == c).nonzero().squeeze(1)
        found[rows] = rows[torch.randint(len(rows), (len(rows), k), generator=generator)]
    strayed = torch.rand(found.shape, generator=generator) < strays * torch.rand(len(true), 1, generator=generator)
    return torch.where(strayed, torch.randint(len(true), found.shape, generator=generator), found)


def judged(true: Tensor, labels: Tensor, strays: float) -> Posterior:
    num_classes = int(true.max()) + 1
    return label_posterior(vote_shares(neighbors_of(true, strays), labels, num_classes), labels)


def right(found: Posterior, true: Tensor) -> float:
    return (found.probabilities.argmax(dim=1) == true).float().mean().item()


@pytest.mark.parametrize("num_classes", [1, 2, 3, 10])
@pytest.mark.parametrize("num_samples", [1, 2, 7, 60, 1500])
@pytest.mark.parametrize("blame_labels", [0.0, 0.5, 1.0])
def test_against_numpy_and_scikit_learn(
    num_samples: int, num_classes: int, blame_labels: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_ROWS", 400)
    generator = torch.Generator().manual_seed(num_samples + num_classes)
    true = torch.randint(num_classes, (num_samples,), generator=generator)
    wrong = torch.rand(num_samples, generator=generator) < 0.4
    labels = torch.where(wrong, torch.randint(num_classes, (num_samples,), generator=generator), true)
    # Whole numbers, of which many are equal.
    counts = torch.randint(4, (num_samples, num_classes), generator=generator) + 2.0
    counts[torch.arange(num_samples), true] += torch.randint(6, (num_samples,), generator=generator)
    counts[3::11] = 0  # of whom nobody was asked
    shares = counts / counts.sum(dim=1, keepdim=True).clamp_min(1)
    found = label_posterior(shares, labels, blame_labels=blame_labels)
    probabilities, rate, transition, trust = reference(shares.double().numpy(), labels.numpy(), blame_labels)
    np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-5)
    np.testing.assert_allclose(found.noise_rate, rate, atol=1e-6)
    np.testing.assert_allclose(found.transition, transition, atol=1e-6)
    np.testing.assert_allclose(found.trust, trust, atol=1e-4)
    assert torch.equal(found.probabilities[3::11].argmax(dim=1), labels[3::11])
    if num_samples > 60 and num_classes > 1:
        assert 0.2 < found.noise_rate < 0.6


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0.01, 1), st.integers(0, 50)), min_size=1, max_size=700))
def test_the_nearest_non_decreasing_sequence(rows: list[tuple[float, float, int]]) -> None:
    values, weights, keys = (np.array(part, dtype=float) for part in zip(*rows, strict=True))
    keys.sort()
    found = non_decreasing(*map(torch.from_numpy, (values, weights, keys)))
    np.testing.assert_allclose(found, isotonic(values, weights, keys), atol=1e-6)
    for key in np.unique(keys):
        assert len(set(found[keys == key].tolist())) == 1


def test_there_are_a_hundred_bins_at_most() -> None:
    keys = torch.arange(20_000, dtype=torch.float64)
    assert len(set(non_decreasing(keys, torch.ones_like(keys), keys).tolist())) == 100


def asymmetric(true: Tensor, rate: float) -> Tensor:
    """MNIST's similar digits: half of the classes are mistaken for one other."""
    matrix = np.eye(10)
    for c, other in ((7, 1), (2, 7), (5, 6), (6, 5), (3, 8)):
        matrix[c, c], matrix[c, other] = 1 - rate, rate
    return from_matrix(true, matrix, seed=0).labels


NOISES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "symmetric": lambda true, rate: symmetric(true, rate, 10, seed=0).labels,
    "pair": lambda true, rate: pairflip(true, rate, 10, seed=0).labels,
    "asymmetric": asymmetric,
}


@pytest.mark.parametrize(
    ("kind", "rate"),
    [
        *(("symmetric", rate) for rate in (0.0, 0.05, 0.2, 0.4, 0.6, 0.8)),
        *((kind, rate) for kind in ("pair", "asymmetric") for rate in (0.05, 0.2, 0.4)),
    ],
)
@pytest.mark.parametrize("strays", [0.0, 0.6])
def test_labels_that_are_known_to_lie(kind: str, rate: float, strays: float) -> None:
    true = torch.arange(5000) % 10
    labels = NOISES[kind](true, rate)
    found = judged(true, labels, strays)
    actual = (labels != true).float().mean().item()
    # At most 3 points from the truth, up to 60 %; at 80 % one label in five tells little.
    assert found.noise_rate == pytest.approx(actual, abs=0.03 if rate <= 0.6 else 0.05)
    torch.testing.assert_close(found.probabilities.sum(dim=1), torch.ones(5000), atol=1e-5, rtol=0)
    assert right(found, true) >= 1 - 0.2 * actual, "nearly all wrong labels are mended, and right ones left"
    # Calibrated: of the labels with a probability, that share is right.
    own = found.probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
    bins, error = (own * 9.999).long(), 0.0
    for number in range(10):
        rows = bins == number
        error += (own[rows].sum() - (labels == true)[rows].sum()).abs().item() / len(true)
    assert error < 0.05


@pytest.mark.parametrize("kind", ["pair", "asymmetric"])
def test_which_class_is_given_as_which(kind: str) -> None:
    true = torch.arange(5000) % 10
    labels = NOISES[kind](true, 0.3)
    counts = torch.bincount(true * 10 + labels, minlength=100).view(10, 10).float()
    torch.testing.assert_close(judged(true, labels, 0.5).transition, counts / 500, atol=0.1, rtol=0)


@pytest.mark.parametrize(("largest", "rate"), [(1000, 0.0), (1000, 0.2), (300, 0.4)])
def test_classes_of_unequal_size(largest: int, rate: float) -> None:
    sizes = (largest * 0.7 ** torch.arange(10)).long()
    true = torch.arange(10).repeat_interleave(sizes)
    labels = symmetric(true, rate, 10, seed=0).labels
    found = judged(true, labels, 0.3)
    assert right(found, true) >= 1 - 0.1 * rate
    of_rarest = found.probabilities.argmax(dim=1)[true == 9] == 9
    assert of_rarest.float().mean() > 0.8


def test_many_classes() -> None:
    true = torch.arange(10_000) % 500
    labels = symmetric(true, 0.4, 500, seed=0).labels
    found = label_posterior(vote_shares(neighbors_of(true, 0.5, k=15), labels, 500), labels)
    assert found.noise_rate == pytest.approx(0.4, abs=0.05)
    assert right(found, true) > 0.85
    own = found.probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
    assert own[labels != true].mean() < 0.3 < own[labels == true].mean()


@pytest.mark.parametrize("strays", [0.0, 0.7])
def test_neither_the_order_of_samples_nor_that_of_classes_matters(strays: float) -> None:
    # Classes one after another, as in an image folder, the noisy ones last.
    true = torch.arange(1000) // 100
    labels = asymmetric(true, 0.4)
    shares = vote_shares(neighbors_of(true, strays, k=11), labels, 10)
    found = label_posterior(shares, labels)
    generator = torch.Generator().manual_seed(0)
    rows, names = torch.randperm(1000, generator=generator), torch.randperm(10, generator=generator)
    moved = label_posterior(shares[rows], labels[rows])
    torch.testing.assert_close(moved.probabilities, found.probabilities[rows])
    assert moved.noise_rate == pytest.approx(found.noise_rate)
    if strays == 0:  # else as many may vote for one class as for another, and the first one counts
        renamed = label_posterior(shares[:, names], names.argsort()[labels])
        torch.testing.assert_close(renamed.probabilities, found.probabilities[:, names])


def test_votes_are_trusted_as_far_as_they_err_less_than_labels() -> None:
    true = torch.arange(5000) % 10
    labels = symmetric(true, 0.4, 10, seed=0).labels
    trusts = [judged(true, labels, strays).trust for strays in (0.3, 1.2, 1.6)]
    assert trusts == sorted(trusts, reverse=True)
    assert trusts[0] > 0.9
    assert trusts[-1] < 0.8
    assert judged(true, true, 0.9).trust < 0.1, "of labels without a mistake"


@pytest.mark.parametrize("num_classes", [2, 10, 100])
@pytest.mark.parametrize("rate", [0.0, 0.4])
@pytest.mark.parametrize("kind", ["random", "equal", "nobody"])
def test_votes_that_say_nothing_leave_the_labels_as_they_are(num_classes: int, rate: float, kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = symmetric(torch.arange(3000) * num_classes // 3000, rate, num_classes, seed=0).labels
    shares = {
        "random": torch.rand(3000, num_classes, generator=generator),
        "equal": torch.ones(3000, num_classes),
        "nobody": torch.zeros(3000, num_classes),
    }[kind]
    found = label_posterior(shares / shares.sum(dim=1, keepdim=True).clamp_min(1), labels)
    assert torch.equal(found.probabilities, torch.nn.functional.one_hot(labels, num_classes).float())
    assert (found.noise_rate, found.trust) == (0, 0)
    assert torch.equal(found.transition, torch.eye(num_classes))


def test_who_was_not_asked_changes_nothing_for_others() -> None:
    true = torch.arange(2000) % 10
    labels = NOISES["pair"](true, 0.3)
    shares = vote_shares(neighbors_of(true, 0.5), labels, 10)
    found = label_posterior(shares, labels)
    with_others = label_posterior(
        torch.cat([shares, torch.zeros(3000, 10)]), torch.cat([labels, labels, labels[:1000]])
    )
    assert torch.equal(with_others.probabilities[:2000], found.probabilities)
    assert with_others.noise_rate == found.noise_rate


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_shares_in_half_precision_are_enough(dtype: torch.dtype) -> None:
    true = torch.arange(2000) % 10
    labels = NOISES["symmetric"](true, 0.4)
    shares = vote_shares(neighbors_of(true, 0.3), labels, 10)
    assert right(label_posterior(shares.to(dtype), labels), true) > 0.97
