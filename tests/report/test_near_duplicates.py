"""Groups of nearly equal samples with different labels, against SciPy's components."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mixnn_loader.report.near_duplicates import contradicting_duplicates


@given(seed=st.integers(0, 10_000), size=st.integers(2, 60))
def test_groups_are_connected_components_with_several_labels(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, min(4, size)))
    neighbors = np.stack([rng.choice(np.delete(np.arange(size), row), k, replace=False) for row in range(size)])
    distances = np.sort(rng.choice([0.0, 0.05, 1.0], (size, k), p=[0.1, 0.1, 0.8]).astype(np.float32), axis=1)
    labels = rng.integers(0, 3, size)

    median = np.median(distances[:, 0])
    near = (distances == 0) | (distances < 0.13 * median)
    rows, places = np.nonzero(near)
    edges = coo_array((np.ones(len(rows)), (rows, neighbors[rows, places])), shape=(size, size))
    count, of = connected_components(edges, directed=False)
    groups = [np.flatnonzero(of == number).tolist() for number in range(count)]
    expected = [group for group in groups if len({int(labels[row]) for row in group}) > 1]

    found = [group.tolist() for group in contradicting_duplicates(neighbors, distances, labels)]
    assert found == sorted(expected)


def test_distances_that_are_not_known_make_no_others_near() -> None:
    neighbors = np.array([[1], [2], [0], [0], [0]])
    distances = np.array([[0.5], [0.9], [1.0], [np.inf], [np.inf]], dtype=np.float32)
    labels = np.array([0, 1, 2, 3, 4])
    assert contradicting_duplicates(neighbors, distances, labels) == []
    assert contradicting_duplicates(neighbors, np.full_like(distances, np.inf), labels) == []
    distances[0] = 0.0
    (group,) = contradicting_duplicates(neighbors, distances, labels)
    assert group.tolist() == [0, 1]


def test_no_neighbors_no_groups() -> None:
    nothing = np.empty((5, 0), dtype=np.int64)
    assert contradicting_duplicates(nothing, nothing.astype(np.float32), np.arange(5)) == []
