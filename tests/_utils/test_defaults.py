"""``torch.set_default_dtype`` and ``torch.set_default_device`` change nothing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import mixnn_loader
from mixnn_loader._utils.processes import Processes
from mixnn_loader._utils.random_state import RandomState
from mixnn_loader.data.labels import class_labels

PACKAGE = Path(mixnn_loader.__file__).parent

FACTORIES = {
    *("arange", "as_tensor", "empty", "eye", "full", "linspace", "logspace", "ones", "rand", "randint", "randn"),
    *("randperm", "scalar_tensor", "tensor", "zeros", "Tensor", "FloatTensor"),
}
"""Functions of `torch` that make a tensor of the default type or on the default device."""


def calls_by_default(path: Path) -> Iterator[str]:
    """Give the calls of a factory that leave the type or the device to the defaults."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FACTORIES:
            of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
            if of_torch and not {keyword.arg for keyword in node.keywords} >= {"dtype", "device"}:
                yield f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("room", ["_utils", "data"])
def test_every_factory_call_names_type_and_device(room: str) -> None:
    assert [call for path in sorted((PACKAGE / room).rglob("*.py")) for call in calls_by_default(path)] == []


def test_the_walk_sees_the_calls(tmp_path: Path) -> None:
    lines = [
        "torch.zeros(3)",
        "torch.zeros(3, dtype=int, out=x)",
        "torch.zeros(3, dtype=int, device='cpu')",
        "np.zeros(3)",
    ]
    (tmp_path / "file.py").write_text("\n".join(lines), encoding="utf-8")
    assert list(calls_by_default(tmp_path / "file.py")) == ["file.py:1", "file.py:2"]


def test_results_are_on_the_host_under_another_default_device() -> None:
    with torch.device("meta"):
        assert Processes().size == 1
        assert class_labels([], torch.empty(0, dtype=torch.int64, device="cpu")).device.type == "cpu"
        assert class_labels(np.array([1, 0]), torch.tensor([4, 5], device="cpu")).tolist() == [1, 0]
        state = RandomState.now()
        RandomState.from_state_dict(state.state_dict()).restore()
        assert torch.equal(RandomState.now().torch, state.torch)
