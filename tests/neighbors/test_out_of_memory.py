"""Searches go on where memory runs out, and find the same."""

import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixnn_loader.neighbors import CellSearch, ExactSearch, NeighborSearch, search_all
from mixnn_loader.neighbors.cell_search import MIN_ROWS
from mixnn_loader.neighbors.out_of_memory import in_blocks, ran_out_of_memory, tell_once

CPU_MESSAGE = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "281474976710656 bytes. Error code 12 (Cannot allocate memory)"
)
ERRORS: list[Callable[[], Exception]] = [
    lambda: RuntimeError(CPU_MESSAGE),
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    lambda: RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB, other allocations: 0 bytes)"),
    lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError,
]


@pytest.fixture(autouse=True)
def told_anew() -> Iterator[None]:
    tell_once.cache_clear()
    yield
    tell_once.cache_clear()


class Memory:
    """Lets a function of torch fail for results of more than ``limit`` numbers; counts how often it did."""

    def __init__(self, function: Callable[..., Any], limit: int, error: Callable[[], Exception]) -> None:
        self.function = function
        self.limit = limit
        self.error = error
        self.failures = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.function(*args, **kwargs)
        if result.numel() > self.limit:
            self.failures += 1
            raise self.error()
        return result


@st.composite
def points(draw: st.DrawFn) -> Tensor:
    """Whole numbers, whose squares are exact; many coincide."""
    shape = draw(st.integers(2, 40)), draw(st.integers(1, 4))
    return torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))).float()


@pytest.mark.parametrize("error", ERRORS)
@settings(deadline=None, max_examples=20)
@given(rows=points(), rows_that_fit=st.integers(1, 50), data=st.data())
def test_exact_search_is_exact_however_little_fits(
    error: Callable[[], Exception], rows: Tensor, rows_that_fit: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(rows) - 1))
    search = ExactSearch(shortlist_dtype=data.draw(st.sampled_from([torch.float32, torch.bfloat16])))
    padded = -(-len(rows) // 32) * 64  # at most, columns of a tile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mixnn_loader.neighbors.shortlist.TILE_COLUMNS", data.draw(st.sampled_from([16, 16_384])))
        patch.setattr(torch, "mm", Memory(torch.mm, rows_that_fit * padded, error))
        norms = Memory(torch.linalg.vector_norm, max(len(rows), rows_that_fit * min(len(rows), k + 9)), error)
        patch.setattr(torch.linalg, "vector_norm", norms)
        neighbors = search.search(rows, k)
    distances = (rows[:, None] - rows).square().sum(dim=2).fill_diagonal_(torch.inf)
    assert torch.equal(distances.gather(1, neighbors), distances.sort(dim=1).values[:, :k])


def learned_rows() -> Tensor:
    """Points around the corners of a cube."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(2, (MIN_ROWS + 100, 5), generator=generator).float()
    return corners + 0.1 * torch.randn(corners.shape, generator=generator)


@pytest.mark.parametrize(
    ("search", "function"), [(ExactSearch(), "mm"), (CellSearch(), "addmm")], ids=["exact", "cells"]
)
def test_the_same_is_found_in_smaller_blocks(
    search: NeighborSearch, function: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = learned_rows()
    expected = search.search(rows, 1)
    assert not caplog.records
    memory = Memory(getattr(torch, function), 300_000, ERRORS[0])
    monkeypatch.setattr(torch, function, memory)
    found = search_all(search, rows, 1)
    assert memory.failures > 1
    assert found.backend == type(search).__name__
    assert torch.equal(found.neighbors, expected)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("memory ran out in the neighbor search; it goes on in smaller blocks")
    assert "representation_dtype=torch.float16" in warnings[0]
    search_all(search, rows, 1)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


@pytest.mark.parametrize("error", ERRORS)
def test_where_not_even_a_row_fits_the_error_says_what_takes_less(
    error: Callable[[], Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "mm", memory := Memory(torch.mm, 0, error))
    with pytest.raises(type(error())) as caught:
        search_all(ExactSearch(), torch.eye(20), 1)
    assert str(caught.value) == str(error())
    assert memory.failures == 5  # blocks of 20, 10, 5, 2 and 1
    note = caught.value.__notes__[0] if sys.version_info >= (3, 11) else caplog.messages[-1]
    for remedy in ("representation_dtype=torch.float16", "search='cells'", "feature_layer=", "neighbors='batch'"):
        assert remedy in note


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("no memory")])
def test_other_errors_come_out_at_once(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "mm", memory := Memory(torch.mm, 0, lambda: error))
    with pytest.raises(type(error)) as caught:
        search_all(ExactSearch(), torch.eye(20), 1)
    assert caught.value is error
    assert memory.failures == 1
    assert not hasattr(error, "__notes__")


@settings(deadline=None, max_examples=50)
@given(count=st.integers(0, 40), size=st.integers(1, 40), limits=st.lists(st.integers(1, 40), min_size=1))
def test_blocks_cover_the_rows_once_and_in_order(count: int, size: int, limits: list[int]) -> None:
    limit = iter(limits)
    fits = next(limit)
    tried: list[int] = []

    def work(block: slice) -> list[int]:
        nonlocal fits
        tried.append(block.stop - block.start)
        if tried[-1] > fits:
            raise MemoryError
        fits = next(limit, fits)  # others take memory, or give it back
        return list(range(count))[block]

    done = in_blocks(count, size, work)
    assert [row for block in done for row in block] == list(range(count))
    assert len(done) >= 1
    assert max(tried) <= min(size, max(count, 0))


@pytest.mark.parametrize("error", [error() for error in ERRORS])
def test_tells_lack_of_memory(error: Exception) -> None:
    assert ran_out_of_memory(error)


def test_the_cpus_own_error_is_told() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert ran_out_of_memory(caught.value)


def test_memory_of_the_failed_block_is_given_back_before_the_next() -> None:
    alive: list[int] = []

    class Tile:
        count = 0

        def __init__(self) -> None:
            Tile.count += 1

        def __del__(self) -> None:
            Tile.count -= 1

    def work(block: slice) -> None:
        alive.append(Tile.count)
        tile = Tile()
        if block.stop - block.start > 1:
            raise MemoryError(f"for {tile.count} tiles")

    in_blocks(8, 8, work)
    assert alive == [0] * len(alive)


def test_a_tile_that_did_not_fit_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles: list[int] = []
    mm = torch.mm

    def failing_once(left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
        tiles.append(out.untyped_storage().nbytes())
        if len(tiles) == 2:
            raise MemoryError
        return mm(left, right, out=out)

    monkeypatch.setattr(torch, "mm", failing_once)
    monkeypatch.setattr("mixnn_loader.neighbors.shortlist.TILE_ROWS", 100)
    ExactSearch(shortlist_dtype=torch.float32).search(learned_rows()[:300], 1)
    assert tiles[1] == tiles[0]
    assert tiles[2:] == [tiles[0] // 2] * 4
