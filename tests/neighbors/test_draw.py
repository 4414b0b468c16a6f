"""Which samples each sample is mixed with."""

from itertools import combinations, permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from mixnn_loader.neighbors.draw import nearest_partners, no_partners, random_partners

MEMBERS = np.array([0, 2, 3, 5, 8, 9])
POOL = np.array([[1, 2, 3, 4, 5], [9, 8, 7, 6, 5], [0, 1, 3, 5, 7]])
DRAWS = 6000


def assert_uniform(observed: list[tuple[int, ...]], outcomes: list[tuple[int, ...]]) -> None:
    """Every outcome, and no other, comes equally often, to five standard deviations."""
    found, counts = np.unique(np.array(observed), axis=0, return_counts=True)
    assert sorted(map(tuple, found.tolist())) == sorted(outcomes)
    expected = len(observed) / len(outcomes)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def as_tuples(rows: NDArray[np.int64]) -> list[tuple[int, ...]]:
    return [tuple(row) for row in rows.tolist()]


@pytest.mark.parametrize("batch_size", [0, 1, 4])
def test_no_partners(batch_size: int) -> None:
    drawn = no_partners(np.arange(batch_size), np.random.default_rng(0))
    assert drawn.shape == (batch_size, 0)
    assert drawn.dtype == np.int64


@pytest.mark.parametrize("own", MEMBERS)
@pytest.mark.parametrize("num_neighbors", [1, 2])
def test_random_partners_are_uniform_over_the_other_members(own: int, num_neighbors: int) -> None:
    draw = random_partners(MEMBERS, 10, num_neighbors)
    partners = draw(np.full(DRAWS, own), np.random.default_rng(0))
    others = [int(member) for member in MEMBERS if member != own]
    assert_uniform(as_tuples(partners), list(permutations(others, num_neighbors)))


def test_random_partners_may_be_all_the_others() -> None:
    draw = random_partners(MEMBERS, 10, len(MEMBERS) - 1)
    partners = draw(np.repeat(MEMBERS, 50), np.random.default_rng(0))
    for own, row in zip(np.repeat(MEMBERS, 50), partners, strict=True):
        assert sorted([own, *row]) == MEMBERS.tolist()


def test_a_sample_outside_of_the_members_gets_itself() -> None:
    indices = np.array([1, 2, 4, 9, 1])
    partners = random_partners(MEMBERS, 10, 3)(indices, np.random.default_rng(0))
    outside = ~np.isin(indices, MEMBERS)
    assert (partners[outside] == indices[outside, None]).all()
    assert (partners[~outside] != indices[~outside, None]).all()
    assert np.isin(partners[~outside], MEMBERS).all()


def test_the_whole_pool_comes_in_its_order() -> None:
    drawn = nearest_partners(POOL, 5)(np.array([2, 0, 2]), np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, POOL[[2, 0, 2]])


@pytest.mark.parametrize("num_neighbors", [1, 2, 4])
def test_partners_from_a_pool_are_uniform_and_different(num_neighbors: int) -> None:
    indices = np.tile([0, 1, 2], DRAWS)
    drawn = nearest_partners(POOL, num_neighbors)(indices, np.random.default_rng(0))
    assert drawn.shape == (len(indices), num_neighbors)
    for row, pool in enumerate(POOL):
        subsets = list(combinations(sorted(pool.tolist()), num_neighbors))
        assert_uniform(as_tuples(np.sort(drawn[indices == row], axis=1)), subsets)


@pytest.mark.parametrize("draw", [nearest_partners(POOL, 2), random_partners(MEMBERS, 10, 2)])
def test_drawing_depends_on_nothing_but_the_generator(draw: object) -> None:
    assert callable(draw)
    indices = np.array([0, 2, 0])
    first, again = (draw(indices, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(indices, [0, 2, 0])


def test_a_sample_fills_up_where_the_others_are_too_few() -> None:
    draw = random_partners(np.array([1, 3]), 4, 3)
    drawn = draw(np.array([1, 3, 0]), np.random.default_rng(0))
    assert drawn.tolist() == [[3, 1, 1], [1, 3, 3], [0, 0, 0]]
