"""The moving average of the soft targets, against a loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mixnn_loader._utils.batch_indices import BatchIndices
from mixnn_loader.method.soft_targets import (
    credible_targets,
    mean_over_repeats,
    moving_average,
    places_in_batch,
    sharpened,
)

Update = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], float]


@st.composite
def updates(draw: st.DrawFn) -> Update:
    """Targets (N, C), a batch of rows (B,), maybe repeated, its predictions (B, C), and α."""
    num_samples, num_classes = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    rows = draw(st.lists(st.integers(0, num_samples - 1), max_size=8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return (
        rng.dirichlet(np.ones(num_classes), num_samples).astype(np.float32),
        np.array(rows, dtype=np.int64),
        rng.dirichlet(np.ones(num_classes), len(rows)).astype(np.float32),
        draw(st.floats(0, 1)),
    )


def moved(update: Update) -> torch.Tensor:
    targets, rows, probabilities, momentum = update
    return written(torch.from_numpy(targets), torch.from_numpy(rows), torch.from_numpy(probabilities), momentum)


def written(targets: torch.Tensor, rows: torch.Tensor, probabilities: torch.Tensor, momentum: float) -> torch.Tensor:
    """Move the targets of a batch, and write them to a copy of all."""
    after = targets.clone()
    after[rows] = moving_average(targets[rows], mean_over_repeats(probabilities, BatchIndices(rows)), momentum)
    return after


@settings(deadline=None)
@given(updates())
def test_one_step_towards_the_mean_prediction_of_each_sample(update: Update) -> None:
    targets, rows, probabilities, momentum = update
    expected = targets.astype(np.float64)
    for row in sorted(set(rows.tolist())):
        mean = probabilities[rows == row].astype(np.float64).mean(axis=0)
        expected[row] = momentum * expected[row] + (1 - momentum) * mean
    np.testing.assert_allclose(moved(update), expected, atol=1e-6)


@settings(deadline=None)
@given(updates())
def test_rows_stay_on_the_simplex_and_the_others_stay_as_they_are(update: Update) -> None:
    targets, rows, _, _ = update
    result = moved(update).numpy()
    assert (result >= 0).all()
    np.testing.assert_allclose(result.sum(axis=1), np.ones(len(result)), atol=1e-6)
    untouched = np.setdiff1d(np.arange(len(targets)), rows)
    np.testing.assert_array_equal(result[untouched], targets[untouched])


def test_predictions_are_not_changed() -> None:
    targets, probabilities = torch.zeros(2, 2), torch.tensor([[0.25, 0.75], [0.75, 0.25]])
    after = written(targets, torch.tensor([1, 1]), probabilities, 0.5)
    assert probabilities.tolist() == [[0.25, 0.75], [0.75, 0.25]]
    assert targets.tolist() == [[0, 0], [0, 0]]
    assert after.tolist() == [[0, 0], [0.25, 0.25]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@settings(deadline=None, max_examples=30)
@given(update=updates())
def test_in_half_precision_the_average_is_rounded_once(dtype: torch.dtype, update: Update) -> None:
    targets, rows, probabilities, momentum = update
    kept = torch.from_numpy(targets).to(dtype)
    start = kept.float().numpy()
    kept = written(kept, torch.from_numpy(rows), torch.from_numpy(probabilities), momentum)
    assert kept.dtype == dtype
    exact = moved((start, rows, probabilities, momentum)).numpy()
    # A number of [0.5, 1) is at most a quarter of eps from its neighbor in the type.
    np.testing.assert_allclose(kept.float().numpy(), exact, rtol=0, atol=torch.finfo(dtype).eps / 4 + 1e-6)


def test_a_prediction_that_is_not_finite_leaves_the_target_where_it_is() -> None:
    targets = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    probabilities = torch.tensor([[torch.nan, 0.5], [0.0, 1.0]])
    assert moving_average(targets, probabilities, 0.5).tolist() == [[0.5, 0.5], [0.5, 0.5]]


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(0, 3), st.data())
def test_where_in_the_batch_a_neighbor_is(indices: list[int], num_neighbors: int, data: st.DataObject) -> None:
    row = st.lists(st.integers(0, 12), min_size=num_neighbors, max_size=num_neighbors)
    neighbors = data.draw(st.lists(row, min_size=len(indices), max_size=len(indices)))
    asked = torch.tensor(neighbors, dtype=torch.int64).reshape(len(indices), num_neighbors)
    places = places_in_batch(asked, torch.tensor(indices))
    expected = [[indices.index(one) if one in indices else -1 for one in each] for each in neighbors]
    if all(place == -1 for each in expected for place in each):
        assert places is None
    else:
        assert places is not None
        assert places.tolist() == expected


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(2, 5), st.sampled_from([1.0, 2.0, 8.0]))
def test_a_credible_label_stays_and_another_gives_way(
    seed: int, num_samples: int, num_classes: int, power: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_samples)
    averages = rng.dirichlet(np.ones(num_classes), num_samples) * rng.uniform(0.1, 1, (num_samples, 1))
    credible = rng.choice([0.0, 1.0, 0.3], size=num_samples)
    expected = np.zeros_like(averages)
    for i, label in enumerate(labels):
        expected[i] = (1 - credible[i]) * averages[i] ** power / sum(a**power for a in averages[i])
        expected[i, label] += credible[i]
    with np.errstate(divide="ignore"):
        log_posterior = torch.from_numpy(np.log(credible)).float()
    given_labels = torch.from_numpy(labels)
    likely = sharpened(torch.from_numpy(averages).float(), given_labels, power)
    np.testing.assert_allclose(credible_targets(given_labels, likely, log_posterior), expected, atol=1e-5)


def test_where_nothing_is_likely_the_label_stays() -> None:
    assert sharpened(torch.zeros(1, 3), torch.tensor([1])).tolist() == [[0, 1, 0]]


def test_sharpening_does_not_run_out_of_range() -> None:
    likely = torch.tensor([[1e-30, 1e-31]])
    torch.testing.assert_close(sharpened(likely, torch.tensor([1]), power=8.0), torch.tensor([[1.0, 1e-8]]))
