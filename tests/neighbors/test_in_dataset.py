"""Neighbors from anywhere in the dataset: which ones are drawn."""

from itertools import combinations, permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from mixnn_loader.neighbors import Candidates, NearestInDataset, NeighborSource, RandomInDataset
from mixnn_loader.neighbors.source import NoNeighbors

MEMBERS = np.array([0, 2, 3, 5, 8, 9])
POOL = np.array([[1, 2, 3, 4, 5], [9, 8, 7, 6, 5], [0, 1, 3, 5, 7]])
CANDIDATES = Candidates(MEMBERS, POOL)
DRAWS = 6000


def drawn_by(
    source: NeighborSource, indices: NDArray[np.int64], k: int, candidates: Candidates = CANDIDATES, seed: int = 0
) -> NDArray[np.int64]:
    return source.draw(indices, k, candidates, np.random.default_rng(seed))


def assert_uniform(observed: list[tuple[int, ...]], outcomes: list[tuple[int, ...]]) -> None:
    """Every outcome, and no other, comes equally often, to five standard deviations."""
    found, counts = np.unique(np.array(observed), axis=0, return_counts=True)
    assert sorted(map(tuple, found.tolist())) == sorted(outcomes)
    expected = len(observed) / len(outcomes)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def as_tuples(rows: NDArray[np.int64]) -> list[tuple[int, ...]]:
    return [tuple(row) for row in rows.tolist()]


@pytest.mark.parametrize("batch_size", [0, 1, 4])
def test_no_neighbors(batch_size: int) -> None:
    drawn = drawn_by(NoNeighbors(), np.arange(batch_size), 2)
    assert drawn.shape == (batch_size, 0)
    assert drawn.dtype == np.int64


@pytest.mark.parametrize("own", MEMBERS)
@pytest.mark.parametrize("num_neighbors", [1, 2])
def test_random_neighbors_are_uniform_over_the_other_members(own: int, num_neighbors: int) -> None:
    neighbors = drawn_by(RandomInDataset(), np.full(DRAWS, own), num_neighbors)
    others = [int(member) for member in MEMBERS if member != own]
    assert_uniform(as_tuples(neighbors), list(permutations(others, num_neighbors)))


def test_random_neighbors_may_be_all_the_others() -> None:
    neighbors = drawn_by(RandomInDataset(), np.repeat(MEMBERS, 50), len(MEMBERS) - 1)
    for own, row in zip(np.repeat(MEMBERS, 50), neighbors, strict=True):
        assert sorted([own, *row]) == MEMBERS.tolist()


def test_a_sample_outside_of_the_members_gets_itself() -> None:
    indices = np.array([1, 2, 4, 9, 1])
    neighbors = drawn_by(RandomInDataset(), indices, 3)
    outside = ~np.isin(indices, MEMBERS)
    assert (neighbors[outside] == indices[outside, None]).all()
    assert (neighbors[~outside] != indices[~outside, None]).all()
    assert np.isin(neighbors[~outside], MEMBERS).all()


def test_the_whole_pool_comes_in_its_order() -> None:
    drawn = drawn_by(NearestInDataset(5), np.array([2, 0, 2]), 5)
    np.testing.assert_array_equal(drawn, POOL[[2, 0, 2]])


@pytest.mark.parametrize("num_neighbors", [1, 2, 4])
def test_neighbors_from_a_pool_are_uniform_and_different(num_neighbors: int) -> None:
    indices = np.tile([0, 1, 2], DRAWS)
    drawn = drawn_by(NearestInDataset(5), indices, num_neighbors)
    assert drawn.shape == (len(indices), num_neighbors)
    for row, pool in enumerate(POOL):
        subsets = list(combinations(sorted(pool.tolist()), num_neighbors))
        assert_uniform(as_tuples(np.sort(drawn[indices == row], axis=1)), subsets)


@pytest.mark.parametrize("source", [NearestInDataset(5), RandomInDataset()], ids=repr)
def test_drawing_depends_on_nothing_but_the_generator(source: NeighborSource) -> None:
    indices = np.array([0, 2, 0])
    first, again = (drawn_by(source, indices, 2, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(indices, [0, 2, 0])


def test_a_sample_fills_up_where_the_others_are_too_few() -> None:
    drawn = drawn_by(RandomInDataset(), np.array([1, 3, 0]), 3, Candidates(np.array([1, 3]), POOL))
    assert drawn.tolist() == [[3, 1, 1], [1, 3, 3], [0, 0, 0]]


@pytest.mark.parametrize("members", [[], [4]])
def test_nobody_else_to_draw(members: list[int]) -> None:
    drawn = drawn_by(RandomInDataset(), np.array([4, 7]), 2, Candidates(np.array(members, dtype=np.int64), POOL))
    assert drawn.tolist() == [[4, 4], [7, 7]]
