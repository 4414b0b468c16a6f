"""Copies between devices. Accelerators are played by fake tensors: what is asked of them is recorded."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torchvision import tv_tensors

import mixnn_loader
from mixnn_loader._utils.transfer import to_device

PACKAGE = Path(mixnn_loader.__file__).parent


class Copies:
    """Copies between devices: (from, to, non-blocking, type that travels); and tensors that were allocated pinned."""

    def __init__(self) -> None:
        self.between: list[tuple[str, str, bool, torch.dtype]] = []
        self.pinned: list[Tensor] = []


def recording(asked: list[tuple[str, bool]]) -> Callable[..., Tensor]:
    """Stand in for `torch.Tensor.to`: note the device and whether the copy may go on, and copy nothing."""

    def to(self: Tensor, device: torch.device, *, non_blocking: bool = False) -> Tensor:
        asked.append((device.type, non_blocking))
        return self

    return to


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Iterator[Copies]:
    recorded = Copies()
    copy: Callable[..., Tensor] = Tensor.to
    empty_like = torch.empty_like

    def to(self: Tensor, *args: Any, non_blocking: bool = False, **kwargs: Any) -> Tensor:
        out = copy(self, *args, non_blocking=non_blocking, **kwargs)
        if out.device != self.device:
            assert out.dtype == self.dtype, "a copy that also converts goes through pageable memory"
            recorded.between.append((self.device.type, out.device.type, non_blocking, out.dtype))
        return out

    def allocate(tensor: Tensor, *, pin_memory: bool) -> Tensor:
        assert pin_memory
        recorded.pinned.append(empty_like(tensor, pin_memory=True))
        return recorded.pinned[-1]

    monkeypatch.setattr(Tensor, "to", to)
    monkeypatch.setattr(torch, "empty_like", allocate)
    with FakeTensorMode(allow_non_fake_inputs=True):
        try:
            copy(torch.zeros(1), "cuda")
        except RuntimeError as error:
            pytest.skip(f"this PyTorch asks for a driver even for a fake GPU: {error}")
        yield recorded


def test_nothing_is_copied_on_one_device() -> None:
    tensor = torch.arange(6.0)
    assert to_device(tensor, "cpu") is tensor
    assert to_device(tensor, torch.device("cpu"), torch.float32) is tensor


def test_the_type_changes_on_the_host() -> None:
    converted = to_device(torch.tensor([1, 2]), "cpu", torch.float64)
    assert converted.dtype == torch.float64
    assert converted.tolist() == [1, 2]


def test_from_the_host_pageable_memory_is_pinned_and_the_copy_does_not_block(copies: Copies) -> None:
    moved = to_device(torch.zeros(4, 3), "cuda")
    assert moved.device.type == "cuda"
    assert copies.between == [("cpu", "cuda", True, torch.float32)]
    assert len(copies.pinned) == 1


def test_what_is_pinned_is_not_pinned_again(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "is_pinned", lambda _: True)
    to_device(torch.zeros(4, 3), "cuda")
    assert copies.between == [("cpu", "cuda", True, torch.float32)]
    assert copies.pinned == []


@pytest.mark.parametrize(("kind", "pins"), [("cuda", True), ("xpu", True), ("mps", False), ("meta", False)])
def test_memory_is_pinned_for_devices_with_streams_only(
    monkeypatch: pytest.MonkeyPatch, kind: str, *, pins: bool
) -> None:
    asked: list[tuple[str, bool]] = []
    monkeypatch.setattr(Tensor, "is_pinned", lambda _: pins)  # no build of PyTorch has all of these devices
    monkeypatch.setattr(Tensor, "to", recording(asked))
    to_device(torch.zeros(4, 3), kind)
    assert asked == [(kind, pins)]


def test_to_the_host_a_copy_always_blocks(copies: Copies) -> None:
    on_device = torch.zeros(4, 3, device="cuda")
    to_device(on_device, "cpu")
    to_device(on_device, torch.device("cpu"), torch.float16)
    to_device(on_device, "cpu", torch.float64)
    assert [(source, target, is_async) for source, target, is_async, _ in copies.between] == [
        ("cuda", "cpu", False)
    ] * 3
    assert copies.pinned == []


@pytest.mark.skipif(torch.cuda.device_count() == 1, reason="needs two GPUs, or none: then they are imitated")
def test_between_accelerators_it_does_not_block(copies: Copies) -> None:
    to_device(torch.zeros(4, 3, device="cuda:0"), "cuda:1")
    assert copies.between == [("cuda", "cuda", True, torch.float32)]


def test_on_an_accelerator_nothing_is_copied(copies: Copies) -> None:
    tensor = torch.zeros(4, 3, device="cuda:0")
    assert to_device(tensor, "cuda:0") is tensor
    assert copies.between == copies.pinned == []


@pytest.mark.parametrize(
    ("source", "target", "dtype", "travels"),
    [
        ("cpu", "cuda", torch.float64, torch.float32),
        ("cpu", "cuda", torch.float16, torch.float16),
        ("cuda", "cpu", torch.float64, torch.float32),
        ("cuda", "cpu", torch.float16, torch.float16),
    ],
)
def test_the_smaller_type_travels(
    copies: Copies, source: str, target: str, dtype: torch.dtype, travels: torch.dtype
) -> None:
    moved = to_device(torch.zeros(4, 3, device=source), target, dtype)
    assert (moved.device.type, moved.dtype) == (target, dtype)
    assert [copy[-1] for copy in copies.between] == [travels]


@pytest.mark.parametrize(
    "tensor", [torch.zeros(0, 3), torch.eye(3).to_sparse(), tv_tensors.Image(torch.zeros(3, 2, 2))]
)
def test_what_has_no_pinned_form_is_copied_as_it_is(monkeypatch: pytest.MonkeyPatch, tensor: Tensor) -> None:
    asked: list[tuple[str, bool]] = []
    monkeypatch.setattr(Tensor, "to", recording(asked))
    assert to_device(tensor, "cuda") is tensor
    assert asked == [("cuda", False)]


def test_slices_and_expanded_tensors_are_pinned_without_what_lies_between(copies: Copies) -> None:
    for tensor in (torch.zeros(8, 3)[:, :1], torch.zeros(1, 3).expand(8, 3), torch.zeros(2, 5, 4).transpose(1, 2)):
        to_device(tensor, "cuda")
    assert [pinned.untyped_storage().nbytes() // 4 for pinned in copies.pinned] == [8, 24, 40]
    assert [is_async for _, _, is_async, _ in copies.between] == [True] * 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_values_arrive_on_a_gpu_and_come_back() -> None:
    for _ in range(50):
        tensor = torch.randn(1000, 50)
        for part in (tensor, tensor[:, ::7], tensor[:1].expand(9, 50), tensor.pin_memory()):
            assert torch.equal(to_device(to_device(part, "cuda"), "cpu"), part)


def asynchronous_calls(path: Path) -> Iterator[tuple[str, int]]:
    """Give the function and line of each call that passes ``non_blocking``, by name or by place."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        by_name = any(keyword.arg == "non_blocking" for keyword in node.keywords)
        by_place = name in ("to", "cuda", "cpu", "copy_") and any(
            isinstance(argument, ast.Constant) and argument.value is True for argument in node.args
        )
        if by_name or by_place:
            inside = [function.name for function in functions if node in ast.walk(function)]
            yield (inside or [""])[-1], node.lineno


def test_one_file_makes_asynchronous_copies() -> None:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        file = path.relative_to(PACKAGE).with_suffix("").as_posix()
        calls = list(asynchronous_calls(path))
        if file == "method/targets":  # hands on what its caller says
            calls = [call for call in calls if call[0] not in ("to", "cuda")]
        if calls:
            found[file] = calls
    assert set(found) == {"_utils/transfer"}, found


def test_the_walk_sees_asynchronous_calls(tmp_path: Path) -> None:
    source = "def f(x):\n    x.to('cpu', non_blocking=True)\n    x.cuda(0, True)\n    x.to('cpu')\nx.copy_(x, True)\n"
    (tmp_path / "file.py").write_text(source, encoding="utf-8")
    assert sorted(asynchronous_calls(tmp_path / "file.py")) == [("", 5), ("f", 2), ("f", 3)]
