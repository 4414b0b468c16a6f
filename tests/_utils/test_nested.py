"""One function over every tensor of a nest."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from mixnn_loader._utils.nested import map_tensors, tensors_of


class Views(NamedTuple):
    weak: Any
    strong: Any


NESTS = {
    "tensor": torch.tensor(1),
    "tuple": (torch.tensor(1), torch.tensor(2)),
    "list": [torch.tensor(1)],
    "dict": {"b": torch.tensor(1), "a": torch.tensor(2)},
    "named tuple": Views(torch.tensor(1), torch.tensor(2)),
    "deep": {"image": [Views(torch.tensor(1), (torch.tensor(2),))], "row": torch.tensor(3)},
    "empty": ((), [], {}),
}


def plain(nest: Any) -> Any:
    """The same nest with integers for tensors, so that ``==`` compares it."""
    if isinstance(nest, Tensor):
        return int(nest)
    if isinstance(nest, dict):
        return {key: plain(value) for key, value in nest.items()}
    values = [plain(value) for value in nest]
    return Views(*values) if isinstance(nest, Views) else type(nest)(values)


@pytest.mark.parametrize(
    ("name", "doubled"),
    [
        ("tensor", 2),
        ("tuple", (2, 4)),
        ("list", [2]),
        ("dict", {"b": 2, "a": 4}),
        ("named tuple", Views(2, 4)),
        ("deep", {"image": [Views(2, (4,))], "row": 6}),
        ("empty", ((), [], {})),
    ],
)
def test_maps_every_tensor_and_keeps_the_structure(name: str, doubled: Any) -> None:
    before = plain(NESTS[name])
    mapped = map_tensors(lambda tensor: 2 * tensor, NESTS[name])
    assert plain(mapped) == doubled
    assert type(mapped) is type(NESTS[name])
    assert plain(NESTS[name]) == before


def test_keeps_a_named_tuple_within_a_nest() -> None:
    mapped = map_tensors(torch.neg, NESTS["deep"])
    assert type(mapped["image"][0]) is Views
    assert type(mapped["image"][0].strong) is tuple


@pytest.mark.parametrize(
    ("name", "expected"),
    [("tensor", [1]), ("dict", [1, 2]), ("named tuple", [1, 2]), ("deep", [1, 2, 3]), ("empty", [])],
)
def test_lists_the_tensors_in_order(name: str, expected: list[int]) -> None:
    assert [int(tensor) for tensor in tensors_of(NESTS[name])] == expected


@pytest.mark.parametrize("leaf", ["text", 3, None])
@pytest.mark.parametrize("function", [tensors_of, lambda nest: map_tensors(torch.neg, nest)])
def test_a_leaf_that_is_no_tensor_is_named(function: Any, leaf: Any) -> None:
    with pytest.raises(TypeError, match=rf"got a {type(leaf).__name__} among them; pass unpack="):
        function({"image": torch.ones(2), "other": (leaf,)})
