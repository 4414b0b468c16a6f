"""Which backend stands for which argument."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from mixnn_loader.neighbors import CellSearch, ExactSearch, HNSWSearch, NeighborSearch, resolve_search
from mixnn_loader.neighbors.choose import EXACT_UP_TO_ROWS

CPU = torch.device("cpu")


class NextRow:
    """A backend of the user's own: everyone's neighbors are the rows that follow."""

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Tensor:
        rows = torch.arange(len(representations)) if queries is None else queries
        return (rows[:, None] + torch.arange(1, k + 1)) % len(representations)


@pytest.mark.parametrize(
    ("num_rows", "device", "expected"),
    [
        (10, "cpu", ExactSearch),
        (EXACT_UP_TO_ROWS, "cpu", ExactSearch),
        (EXACT_UP_TO_ROWS + 1, "cpu", CellSearch),
        (EXACT_UP_TO_ROWS + 1, "cuda", ExactSearch),
        (EXACT_UP_TO_ROWS + 1, "mps", ExactSearch),
    ],
)
def test_auto(num_rows: int, device: str, expected: type) -> None:
    assert isinstance(resolve_search("auto", num_rows=num_rows, device=torch.device(device)), expected)


@pytest.mark.parametrize(("name", "expected"), [("exact", ExactSearch), ("cells", CellSearch), ("hnsw", HNSWSearch)])
@pytest.mark.parametrize("num_rows", [10, EXACT_UP_TO_ROWS + 1])
def test_by_name(name: str, expected: type, num_rows: int) -> None:
    assert isinstance(resolve_search(name, num_rows=num_rows, device=CPU), expected)


@pytest.mark.parametrize("backend", [NextRow(), ExactSearch(memory_budget=5), HNSWSearch(ef_search=7)])
def test_an_object_is_taken_as_it_is(backend: NeighborSearch) -> None:
    assert resolve_search(backend, num_rows=3, device=CPU) is backend


def test_a_backend_of_the_users_own_answers() -> None:
    backend = resolve_search(NextRow(), num_rows=4, device=CPU)
    assert isinstance(backend, NeighborSearch)
    assert backend.search(torch.zeros(4, 2), 2).tolist() == [[1, 2], [2, 3], [3, 0], [0, 1]]


def test_unknown_name() -> None:
    choices = re.escape('"auto", "exact", "cells", "hnsw" or an object with a search')
    with pytest.raises(ValueError, match=f"search must be {choices}.*got 'annoy'"):
        resolve_search("annoy", num_rows=3, device=CPU)


@pytest.mark.parametrize("value", [None, 3, object()])
def test_not_a_backend(value: Any) -> None:
    with pytest.raises(TypeError, match=re.escape(f"got {value!r}")):
        resolve_search(value, num_rows=3, device=CPU)


def test_search_that_is_not_a_method() -> None:
    backend: Any = SimpleNamespace(search="exact")
    with pytest.raises(TypeError, match=r"search must be .*got namespace\(search='exact'\)"):
        resolve_search(backend, num_rows=3, device=CPU)


def test_a_class_in_place_of_an_object() -> None:
    backend: Any = ExactSearch
    with pytest.raises(TypeError, match="got the class ExactSearch: call it first"):
        resolve_search(backend, num_rows=3, device=CPU)
