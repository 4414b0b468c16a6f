"""What a program has set for all of torch changes no search, and breaks none."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mixnn_loader.neighbors import (
    CellSearch,
    ExactSearch,
    HNSWSearch,
    nearest_in_batch,
    random_in_batch,
    resolve_search,
    search_all,
)
from mixnn_loader.neighbors.cell_search import MIN_ROWS

NOT_DETERMINISTIC_ON_CUDA = {
    *("median", "kthvalue", "scatter_add", "scatter_add_", "histc", "put_"),
    *("cumsum of fractions", "bincount with weights"),
}
"""Refused there under `torch.use_deterministic_algorithms(True)`, or adding up in an order that varies from run to run.

But for `index_add_`, with which the centers of cells are found on the CPU, wherever the rows are.

https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html
"""


def learned_rows(num_rows: int) -> Tensor:
    """Points around the corners of a cube."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(2, (num_rows, 5), generator=generator).float()
    return corners + 0.1 * torch.randn(corners.shape, generator=generator)


MANY, FEW = learned_rows(MIN_ROWS + 100), learned_rows(60)
NUMBERS = torch.arange(60)
DRAWS = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))

SEARCHES: dict[str, Callable[[], Sequence[object]]] = {
    "exact": lambda: search_all(ExactSearch(), FEW, 3),
    "exact, some": lambda: search_all(ExactSearch(), FEW, 3, NUMBERS[:7]),
    "exact, bfloat16": lambda: search_all(ExactSearch(shortlist_dtype=torch.bfloat16), FEW, 3),
    "cells": lambda: search_all(CellSearch(), MANY, 2),
    "hnsw": lambda: search_all(HNSWSearch(), FEW, 3),
    "auto": lambda: search_all(resolve_search("auto", num_rows=60, device=FEW.device), FEW, 3),
    "nearest in the batch": lambda: nearest_in_batch(FEW, NUMBERS, 3),
    "random in the batch": lambda: random_in_batch(NUMBERS, 3, DRAWS),
}
every_search = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)


@pytest.fixture
def other_defaults() -> Iterator[None]:
    """Let tensors come into being elsewhere and in another type, unless it is said which."""
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


@every_search
def test_default_device_and_type(search: Callable[[], Sequence[object]], request: pytest.FixtureRequest) -> None:
    expected = search()
    request.getfixturevalue("other_defaults")
    for found, before in zip(search(), expected, strict=True):
        if isinstance(before, Tensor):
            assert isinstance(found, Tensor)
            assert found.device == before.device
            assert torch.equal(found, before)
        else:
            assert found == before


class Recorder(TorchFunctionMode):
    """Notes what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Note a name, and of what it was where that matters."""
        name = func.__name__
        if name == "cumsum" and args[0].is_floating_point():
            name += " of fractions"
        if name == "bincount" and len(args) > 1 and args[1] is not None:
            name += " with weights"
        self.names.add(name)
        return func(*args, **(kwargs or {}))


@every_search
def test_deterministic_algorithms(search: Callable[[], Sequence[object]]) -> None:
    with Recorder() as recorder:
        search()
    assert recorder.names
    assert not recorder.names & NOT_DETERMINISTIC_ON_CUDA
