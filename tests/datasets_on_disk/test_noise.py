"""Label noise against its nominal matrices, and the CIFAR tables against published ones."""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix
from torch import Tensor

from mixnn_loader import noise
from mixnn_loader.datasets.cifar_classes import CIFAR10_CLASSES, CIFAR100_CLASSES, CIFAR100_SUPERCLASSES

CIFAR100_COARSE = """
     4  1 14  8  0  6  7  7 18  3  3 14  9 18  7 11  3  9  7 11
     6 11  5 10  7  6 13 15  3 15  0 11  1 10 12 14 16  9 11  5
     5 19  8  8 15 13 14 17 18 10 16  4 17  4  2  0 17  4 18 17
    10  3  2 12 12 16 12  1  9 19  2 10  0  1 16 12  9 13 15 13
    16 19  2  4  6 19  5  5  8 19 18  1  2 15  6  0 17  8 14 13
"""
"""CIFAR-100's coarse label of each fine label, as in the dataset's own files."""

rates = st.floats(0, 1)
class_counts = st.integers(2, 12)


@st.composite
def labels_and_classes(draw: st.DrawFn) -> tuple[list[int], int]:
    num_classes = draw(class_counts)
    return draw(st.lists(st.integers(0, num_classes - 1), min_size=1, max_size=60)), num_classes


@st.composite
def stochastic_matrices(draw: st.DrawFn) -> npt.NDArray[np.float64]:
    """Row-stochastic (C, C) matrices, about half of whose entries are exactly zero."""
    num_classes = draw(class_counts)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.random((num_classes, num_classes)) * rng.integers(0, 2, (num_classes, num_classes))
    weights[np.arange(num_classes), rng.integers(0, num_classes, num_classes)] += 0.1
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def assert_drawn_from(matrix: npt.NDArray[np.float64], true: Any, noisy: Tensor) -> None:
    """Every entry of the empirical matrix within five binomial standard deviations of the nominal one."""
    counts = confusion_matrix(true, noisy.numpy(), labels=np.arange(len(matrix)))
    totals = counts.sum(axis=1, keepdims=True)
    deviation = np.sqrt(totals * matrix * (1 - matrix))
    # Rounding can leave a hair of variance on probabilities of zero and one: no sample may deviate there.
    assert (np.abs(counts - totals * matrix) <= 5 * deviation + 1e-6).all()


def nominal_symmetric(rate: float, num_classes: int, *, inclusive: bool) -> npt.NDArray[np.float64]:
    matrix = np.empty((num_classes, num_classes))
    for true in range(num_classes):
        for noisy in range(num_classes):
            if inclusive:
                matrix[true, noisy] = rate / num_classes + (1 - rate if true == noisy else 0)
            else:
                matrix[true, noisy] = 1 - rate if true == noisy else rate / (num_classes - 1)
    return matrix


# ---------------------------------------------------------------------------------------- matrices


@pytest.mark.parametrize("inclusive", [False, True])
@given(rate=rates, num_classes=class_counts)
@settings(deadline=None, max_examples=30)
def test_symmetric_matrix(rate: float, num_classes: int, inclusive: bool) -> None:
    matrix = noise.symmetric_matrix(rate, num_classes, inclusive=inclusive)
    assert matrix.dtype == torch.float64
    np.testing.assert_allclose(matrix, nominal_symmetric(rate, num_classes, inclusive=inclusive), atol=1e-15)


@given(rate=rates, num_classes=class_counts)
@settings(deadline=None, max_examples=30)
def test_every_matrix_is_row_stochastic(rate: float, num_classes: int) -> None:
    for matrix in (
        noise.symmetric_matrix(rate, num_classes),
        noise.symmetric_matrix(rate, num_classes, inclusive=True),
        noise.pairflip_matrix(rate, num_classes),
        noise.asymmetric_matrix(rate, dataset="cifar10"),
        noise.asymmetric_matrix(rate, dataset="cifar100"),
    ):
        assert (matrix >= 0).all()
        np.testing.assert_allclose(matrix.sum(dim=1), 1, atol=1e-12)


def test_inclusive_noise_of_80_percent_is_72_percent_on_ten_classes() -> None:
    kept = noise.symmetric_matrix(0.8, 10, inclusive=True).diagonal()
    np.testing.assert_allclose(kept, 0.28)


def test_pairflip_matrix_moves_to_the_next_class_and_wraps() -> None:
    expected = [[0.7, 0.3, 0.0], [0.0, 0.7, 0.3], [0.3, 0.0, 0.7]]
    np.testing.assert_allclose(noise.pairflip_matrix(0.3, 3), expected)


def test_asymmetric_cifar10_flips_the_five_published_pairs() -> None:
    flips = {("truck", "automobile"), ("bird", "airplane"), ("deer", "horse"), ("cat", "dog"), ("dog", "cat")}
    matrix = noise.asymmetric_matrix(0.4)
    for row, source in enumerate(CIFAR10_CLASSES):
        for column, target in enumerate(CIFAR10_CLASSES):
            if row == column:
                expected = 0.6 if any(source == flipped for flipped, _ in flips) else 1.0
            else:
                expected = 0.4 if (source, target) in flips else 0.0
            assert matrix[row, column].item() == pytest.approx(expected), (source, target)


def test_asymmetric_cifar100_takes_the_next_id_with_the_same_coarse_label() -> None:
    coarse = [int(label) for label in CIFAR100_COARSE.split()]
    expected = np.zeros((100, 100))
    for source in range(100):
        target = next(i % 100 for i in range(source + 1, source + 101) if coarse[i % 100] == coarse[source])
        expected[source, source] = 0.7
        expected[source, target] = 0.3
    np.testing.assert_allclose(noise.asymmetric_matrix(0.3, dataset="cifar100"), expected)


@pytest.mark.parametrize(
    "cycle",
    [
        ("beaver", "dolphin", "otter", "seal", "whale"),
        ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
        ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
    ],
)
def test_asymmetric_cifar100_cycles_by_name(cycle: tuple[str, ...]) -> None:
    certain = noise.asymmetric_matrix(1.0, dataset="cifar100")
    walked = [cycle[0]]
    for _ in cycle:
        walked.append(CIFAR100_CLASSES[int(certain[CIFAR100_CLASSES.index(walked[-1])].argmax())])
    assert walked == [*cycle, cycle[0]]


# -------------------------------------------------------------------------------------- the tables


def test_cifar100_has_twenty_superclasses_of_five_classes() -> None:
    assert Counter(map(len, CIFAR100_SUPERCLASSES.values())) == {5: 20}
    assert len(set(CIFAR100_CLASSES)) == 100


def test_cifar100_superclasses_agree_with_the_published_coarse_labels() -> None:
    coarse_of = dict(zip(CIFAR100_CLASSES, map(int, CIFAR100_COARSE.split()), strict=True))
    for coarse, (superclass, members) in enumerate(CIFAR100_SUPERCLASSES.items()):
        assert {coarse_of[name] for name in members} == {coarse}, superclass


@pytest.mark.parametrize(
    ("label", "name"),
    [(0, "apple"), (4, "beaver"), (39, "keyboard"), (58, "pickup_truck"), (83, "sweet_pepper"), (99, "worm")],
)
def test_cifar100_ids(label: int, name: str) -> None:
    assert CIFAR100_CLASSES[label] == name


# ------------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("rate", [0.2, 0.8])
def test_symmetric_labels_follow_the_matrix(rate: float, inclusive: bool) -> None:
    true = np.arange(40_000) % 10
    noisy = noise.symmetric(true, rate, 10, inclusive=inclusive)
    nominal = nominal_symmetric(rate, 10, inclusive=inclusive)
    np.testing.assert_allclose(noisy.matrix, nominal)
    assert_drawn_from(nominal, true, noisy.labels)


def test_pairflip_labels_follow_the_matrix() -> None:
    true = np.arange(10_000) % 5
    nominal = 0.55 * np.eye(5) + 0.45 * np.eye(5)[[1, 2, 3, 4, 0]]
    assert_drawn_from(nominal, true, noise.pairflip(true, 0.45, 5).labels)


def test_asymmetric_cifar10_leaves_half_of_the_classes_clean() -> None:
    true = np.arange(20_000) % 10
    noisy = noise.asymmetric(true, 0.4)
    changed = {CIFAR10_CLASSES[label] for label in true[noisy.is_noisy.numpy()]}
    assert changed == {"truck", "bird", "deer", "cat", "dog"}
    # Five standard deviations of 10,000 flips of probability 0.4, over 20,000 labels.
    assert noisy.actual_rate == pytest.approx(0.2, abs=5 * np.sqrt(10_000 * 0.4 * 0.6) / 20_000)


def test_asymmetric_cifar100_stays_within_the_superclass() -> None:
    coarse = np.array(CIFAR100_COARSE.split(), dtype=int)
    true = np.arange(5_000) % 100
    noisy = noise.asymmetric(true, 1.0, dataset="cifar100")
    assert noisy.actual_rate == 1.0
    np.testing.assert_array_equal(coarse[noisy.labels.numpy()], coarse[true])


@given(matrix=stochastic_matrices(), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_from_matrix_follows_any_matrix(matrix: npt.NDArray[np.float64], seed: int) -> None:
    true = np.arange(3_000) % len(matrix)
    noisy = noise.from_matrix(true, matrix, seed=seed).labels
    # Seven deviations here: hypothesis looks at thousands of entries and hunts for the unlucky ones.
    counts = confusion_matrix(true, noisy.numpy(), labels=np.arange(len(matrix)))
    totals = counts.sum(axis=1, keepdims=True)
    bound = 7 * np.sqrt(totals * matrix * (1 - matrix)) + 7
    assert (np.abs(counts - totals * matrix) <= bound).all()
    assert (counts[matrix == 0] == 0).all()


@given(case=labels_and_classes(), rate=rates, inclusive=st.booleans(), seed=st.integers(0, 2**63))
@settings(deadline=None, max_examples=50)
def test_labels_stay_in_range_and_is_noisy_agrees(
    case: tuple[list[int], int], rate: float, inclusive: bool, seed: int
) -> None:
    true, num_classes = case
    noisy = noise.symmetric(true, rate, num_classes, inclusive=inclusive, seed=seed)
    labels = noisy.labels.tolist()
    assert noisy.labels.dtype == torch.int64
    assert len(labels) == len(true)
    assert all(0 <= label < num_classes for label in labels)
    changed = [after != before for after, before in zip(labels, true, strict=True)]
    assert noisy.is_noisy.dtype == torch.bool
    assert noisy.is_noisy.tolist() == changed
    assert noisy.actual_rate == pytest.approx(sum(changed) / len(true))


@given(case=labels_and_classes(), seed=st.integers(0, 2**63))
@settings(deadline=None, max_examples=30)
def test_rate_zero_changes_nothing_and_rate_one_everything(case: tuple[list[int], int], seed: int) -> None:
    true, num_classes = case
    assert noise.symmetric(true, 0, num_classes, seed=seed).labels.tolist() == true
    assert noise.symmetric(true, 0, num_classes, inclusive=True, seed=seed).labels.tolist() == true
    assert noise.pairflip(true, 0, num_classes, seed=seed).labels.tolist() == true
    assert noise.symmetric(true, 1, num_classes, seed=seed).actual_rate == 1
    shifted = [(label + 1) % num_classes for label in true]
    assert noise.pairflip(true, 1, num_classes, seed=seed).labels.tolist() == shifted


def test_the_smallest_and_the_largest_draw_pick_a_class_that_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    class Extremes:
        def random(self, size: int) -> npt.NDArray[np.float64]:
            return np.array([0.0, np.nextafter(1, 0)])[:size]

    monkeypatch.setattr(np.random, "default_rng", lambda _: Extremes())
    rows = [[0.0, 1 - 5e-7, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]  # the first sums to one, as nearly as is asked
    assert noise.from_matrix([0, 0], rows).labels.tolist() == [1, 1]


def test_same_seed_same_noise_and_other_seed_other_noise() -> None:
    true = list(range(10)) * 20
    first, again = (noise.symmetric(true, 0.5, 10, seed=3).labels for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, noise.symmetric(true, 0.5, 10, seed=4).labels)


def test_global_random_state_is_neither_read_nor_changed() -> None:
    before = torch.get_rng_state()
    first = noise.symmetric([0, 1] * 50, 0.5, 2).labels
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        assert torch.equal(noise.symmetric([0, 1] * 50, 0.5, 2).labels, first)


def test_noise_of_a_sample_does_not_depend_on_the_others() -> None:
    true = list(range(10)) * 30
    whole = noise.symmetric(true, 0.5, 10).labels
    assert torch.equal(noise.symmetric(true[:100], 0.5, 10).labels, whole[:100])


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 2, 2],
        (0, 1, 2, 2),
        np.array([0, 1, 2, 2], dtype=np.uint8),
        torch.tensor([0, 1, 2, 2]),
        torch.tensor([0, 1, 2, 2], dtype=torch.int32),
    ],
)
def test_labels_may_be_a_sequence_an_array_or_a_tensor(labels: noise.Labels) -> None:
    assert noise.pairflip(labels, 1, 3).labels.tolist() == [1, 2, 0, 0]


def test_matrix_may_be_nested_lists_or_a_tensor_and_is_copied() -> None:
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    noisy = noise.from_matrix([0, 1, 1], swap)
    assert noisy.labels.tolist() == [1, 0, 0]
    assert noise.from_matrix([0, 1, 1], [[0, 1], [1, 0]]).labels.tolist() == [1, 0, 0]
    swap.zero_()
    assert noisy.matrix.tolist() == [[0, 1], [1, 0]]
    assert noisy.matrix.dtype == torch.float64


def test_labels_given_are_not_changed_in_place() -> None:
    true = torch.tensor([0, 1, 2])
    noise.pairflip(true, 1, 3)
    assert true.tolist() == [0, 1, 2]


# -------------------------------------------------------------------------------- empirical matrix


@given(case=labels_and_classes(), rate=rates)
@settings(deadline=None, max_examples=40)
def test_transition_matrix_is_scikit_learns_normalized_confusion(case: tuple[list[int], int], rate: float) -> None:
    true, num_classes = case
    noisy = noise.symmetric(true, rate, num_classes).labels
    expected = confusion_matrix(true, noisy.numpy(), labels=np.arange(num_classes), normalize="true")
    empirical = noise.transition_matrix(true, noisy, num_classes)
    assert empirical.dtype == torch.float64
    np.testing.assert_allclose(empirical, expected)
    assert set(empirical.sum(dim=1).round(decimals=12).tolist()) <= {0.0, 1.0}


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_rate_outside_the_unit_interval(rate: float) -> None:
    with pytest.raises(ValueError, match=rf"rate must be a number in \[0, 1\], got {rate}"):
        noise.symmetric([0], rate, 2)
    with pytest.raises(ValueError, match="rate"):
        noise.asymmetric([0], rate)
    with pytest.raises(ValueError, match="rate"):
        noise.pairflip([0], rate, 2)


@pytest.mark.parametrize("label", [-1, 3])
def test_label_out_of_range_names_the_first_offender(label: int) -> None:
    with pytest.raises(ValueError, match=rf"labels must lie in \[0, 3\), got {label} at index 2"):
        noise.symmetric([0, 1, label, 7], 0.5, 3)
    with pytest.raises(ValueError, match=f"noisy must lie.*got {label} at index 0"):
        noise.transition_matrix([0], [label], 3)


@pytest.mark.parametrize(
    "labels", [np.array([0.0, 1.0]), torch.tensor([0.5, 1.0]), np.array([True, False]), np.array(["0", "1"])]
)
def test_labels_that_are_not_integers(labels: Any) -> None:
    with pytest.raises(TypeError, match="labels must be integers"):
        noise.symmetric(labels, 0.5, 2)


@pytest.mark.parametrize("labels", [[], np.zeros((2, 2), dtype=int), torch.tensor(1)])
def test_labels_of_another_shape(labels: Any) -> None:
    with pytest.raises(ValueError, match=r"labels must have shape \(N,\)"):
        noise.symmetric(labels, 0.5, 2)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((2, 3)) / 3, r"square \(C, C\), got shape \(2, 3\)"),
        (np.ones(4) / 4, r"square \(C, C\), got shape \(4,\)"),
        ([[1.0, 0.0], [0.5, 0.4]], "rows must sum to one, got 0.9 for row 1"),
        ([[1.0, 0.0], [1.5, -0.5]], r"probabilities, got -0.5 at \[1, 1\]"),
        ([[float("nan"), 1.0], [0.0, 1.0]], r"probabilities, got nan at \[0, 0\]"),
    ],
)
def test_matrix_that_is_not_a_transition_matrix(matrix: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noise.from_matrix([0], matrix)


@pytest.mark.parametrize("num_classes", [1, 0, 2.5])
def test_num_classes_below_two(num_classes: Any) -> None:
    with pytest.raises(ValueError, match=f"num_classes must be an integer >= 2, got {num_classes}"):
        noise.symmetric([0], 0.5, num_classes)
    with pytest.raises(ValueError, match="num_classes"):
        noise.pairflip([0], 0.5, num_classes)


@pytest.mark.parametrize("seed", [-1, None, 0.5])
def test_seed_that_is_not_a_natural_number(seed: Any) -> None:
    with pytest.raises(ValueError, match=f"seed must be an integer >= 0, got {seed}"):
        noise.symmetric([0], 0.5, 2, seed=seed)


def test_unknown_dataset() -> None:
    unknown: Any = "mnist"
    with pytest.raises(ValueError, match=r"dataset must be .* got 'mnist'"):
        noise.asymmetric([0], 0.5, dataset=unknown)


def test_true_and_noisy_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="same length, got 2 and 1"):
        noise.transition_matrix([0, 1], [0], 2)
