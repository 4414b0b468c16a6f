"""Neighbors within a batch, against loops over rows."""

import math
from collections import Counter
from itertools import permutations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixnn_loader.neighbors import nearest_in_batch, random_in_batch

VALUES = st.sampled_from([-2.0, -1.0, 0.0, 1.0, 5.0, math.nan, math.inf, -math.inf])


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """Rows with ties and non-finite values, samples drawn twice, more neighbors asked for than there are."""
    size = draw(st.integers(1, 9))
    width = draw(st.integers(1, 3))
    rows = draw(st.lists(st.lists(VALUES, min_size=width, max_size=width), min_size=size, max_size=size))
    indices = draw(st.lists(st.integers(0, 6), min_size=size, max_size=size))
    return torch.tensor(rows), torch.tensor(indices), draw(st.integers(0, size + 2))


def candidates(rows: list[list[float]], indices: list[int], i: int) -> list[int]:
    """Who may be a neighbor of row i."""
    finite = [all(map(math.isfinite, row)) for row in rows]
    return [j for j in range(len(rows)) if finite[i] and finite[j] and indices[i] != indices[j]]


@settings(deadline=None, max_examples=200)
@given(batches())
def test_nearest_agrees_with_a_loop(batch: tuple[Tensor, Tensor, int]) -> None:
    rows, indices, k = batch
    positions, found = nearest_in_batch(rows, indices, k)
    assert positions.shape == found.shape == (len(rows), k)
    assert (positions.dtype, found.dtype) == (torch.int64, torch.bool)
    for i, row in enumerate(rows.tolist()):
        allowed = candidates(rows.tolist(), indices.tolist(), i)
        count = min(k, len(allowed))
        nearest = sorted(math.dist(row, rows[j].tolist()) for j in allowed)[:count]
        answer = positions[i].tolist()
        assert found[i].tolist() == [True] * count + [False] * (k - count)
        assert set(answer[:count]) <= set(allowed)
        assert len(set(answer[:count])) == count
        assert answer[count:] == [i] * (k - count)
        assert [math.dist(row, rows[j].tolist()) for j in answer[:count]] == pytest.approx(nearest, rel=1e-6)


@settings(deadline=None, max_examples=200)
@given(batches(), st.data())
def test_random_agrees_with_a_loop(batch: tuple[Tensor, Tensor, int], data: st.DataObject) -> None:
    """As if others, in the order of their samples, were taken from a list by their number in what is left of it."""
    _, indices, k = batch
    size = len(indices)
    # The largest number below 1, too: in single precision its product with a count is the count.
    draw = st.sampled_from([0.0, 0.25, 0.5, 0.7, 1 - 2**-24])
    draws = torch.tensor(data.draw(st.lists(draw, min_size=size * k, max_size=size * k))).reshape(size, k)
    positions, found = random_in_batch(indices, k, draws)
    assert (positions.dtype, found.dtype) == (torch.int64, torch.bool)
    for i in range(size):
        left = sorted((j for j in range(size) if indices[j] != indices[i]), key=lambda j: int(indices[j]))
        chosen = [left.pop(min(int(number * len(left)), len(left) - 1)) for number in draws[i].tolist()[: len(left)]]
        assert found[i].tolist() == [True] * len(chosen) + [False] * (k - len(chosen))
        assert positions[i].tolist() == chosen + [i] * (k - len(chosen))


def test_every_random_choice_is_equally_likely() -> None:
    # Draws from the middle of every cell of a grid of 4 x 3 stand for all of the square.
    choices = Counter[tuple[int, ...]]()
    for first, second in product(range(4), range(3)):
        draws = torch.tensor([(first + 0.5) / 4, (second + 0.5) / 3]).expand(5, 2)
        positions, _ = random_in_batch(torch.arange(5), 2, draws)
        choices[tuple(positions[0].tolist())] += 1
    assert choices == dict.fromkeys(permutations(range(1, 5), 2), 1)


def test_far_from_the_origin() -> None:
    rows = torch.randn(64, 16, generator=torch.Generator().manual_seed(0)) + 1e4
    distances = torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist")
    expected = distances.fill_diagonal_(torch.inf).topk(3, largest=False).indices
    assert torch.equal(nearest_in_batch(rows, torch.arange(64), 3)[0], expected)


def test_distances_that_overflow_are_the_largest_not_missing() -> None:
    rows = torch.tensor([[0.0], [1e30], [1.0]])
    positions, found = nearest_in_batch(rows, torch.arange(3), 2)
    assert found.all()
    assert positions[0].tolist() == [2, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_type(dtype: torch.dtype) -> None:
    rows = torch.tensor([[0.0], [1.0], [4.0]], dtype=dtype)
    assert nearest_in_batch(rows, torch.arange(3), 1)[0].tolist() == [[1], [0], [1]]


def test_autocast_changes_nothing() -> None:
    rows = torch.tensor([[256.0], [257.0], [259.0]])  # bfloat16 tells neither from its neighbor
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nearest_in_batch(rows, torch.arange(3), 1)[0].tolist() == [[1], [0], [1]]


def test_batch_of_one() -> None:
    positions, found = nearest_in_batch(torch.zeros(1, 2), torch.tensor([7]), 2)
    assert positions.tolist() == [[0, 0]]
    assert found.tolist() == [[False, False]]


def test_nothing_waits_for_the_device() -> None:
    # Meta tensors have no data: reading a value, or a shape that depends on one, is an error.
    indices = torch.empty(6, dtype=torch.int64, device="meta")
    rows, draws = torch.empty(6, 4, device="meta"), torch.empty(6, 8, device="meta")
    for positions, found in (nearest_in_batch(rows, indices, 8), random_in_batch(indices, 8, draws)):
        assert positions.shape == found.shape == (6, 8)
        assert positions.device.type == found.device.type == "meta"


def test_bad_arguments() -> None:
    rows, indices = torch.zeros(3, 2), torch.arange(3)
    with pytest.raises(ValueError, match=r"representations must be floating point of shape \(B, d\).*\(3,\)"):
        nearest_in_batch(rows[:, 0], indices, 1)
    with pytest.raises(ValueError, match=r"representations must be floating point.*torch\.int64"):
        nearest_in_batch(rows.long(), indices, 1)
    with pytest.raises(ValueError, match=r"indices must have shape \(3,\), got \(2,\)"):
        nearest_in_batch(rows, indices[:2], 1)
    with pytest.raises(ValueError, match="k must be an integer >= 0, got -1"):
        nearest_in_batch(rows, indices, -1)
    with pytest.raises(ValueError, match=r"draws must be .*B = 3 and k = 1, got .*\(3, 2\)"):
        random_in_batch(indices, 1, torch.zeros(3, 2))
    with pytest.raises(ValueError, match="k must be an integer >= 0, got -1"):
        random_in_batch(indices, -1, torch.zeros(3, 0))
