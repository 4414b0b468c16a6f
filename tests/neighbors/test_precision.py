"""The float32 switches inside the block, and after it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mixnn_loader.neighbors.precision import full_float32, has_fast_bfloat16

CUDA: Any = torch.backends.cuda.matmul
HAS_SWITCHES = hasattr(CUDA, "fp32_precision")
"""Only torch 2.9 and later have a switch for each backend."""


@pytest.fixture(params=["highest", "high", "medium"])
def user_setting(request: pytest.FixtureRequest) -> Iterator[str]:
    setting: str = request.param
    torch.set_float32_matmul_precision(setting)
    yield setting
    torch.set_float32_matmul_precision("highest")


def test_the_users_setting_is_back_afterwards(user_setting: str) -> None:
    with full_float32("cpu"):
        pass
    assert torch.get_float32_matmul_precision() == user_setting


def test_the_users_setting_is_back_after_an_error(user_setting: str) -> None:
    with pytest.raises(KeyError), full_float32("cpu"):
        raise KeyError
    assert torch.get_float32_matmul_precision() == user_setting


@pytest.mark.skipif(not HAS_SWITCHES, reason="torch before 2.9")
@pytest.mark.usefixtures("user_setting")
def test_products_are_float32_inside() -> None:
    mkldnn: Any = torch.backends.mkldnn
    with full_float32("cpu"):
        assert CUDA.fp32_precision == mkldnn.matmul.fp32_precision == "ieee"


@pytest.mark.skipif(not HAS_SWITCHES, reason="torch before 2.9")
def test_a_backend_switch_set_by_the_user() -> None:
    before = CUDA.fp32_precision
    CUDA.fp32_precision = "tf32"
    try:
        with full_float32("cpu"):
            assert CUDA.fp32_precision == "ieee"
        assert CUDA.fp32_precision == "tf32"
    finally:
        CUDA.fp32_precision = before


def test_autocast_is_off_inside() -> None:
    rows = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with full_float32("cpu"):
            assert (rows @ rows).dtype == torch.float32
        assert (rows @ rows).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"avx512_f": True, "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_bfloat16_on_a_cpu(monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_fast_bfloat16(torch.device("cpu")) is expected


def test_bfloat16_where_torch_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_fast_bfloat16(torch.device("cpu"))
    assert not has_fast_bfloat16(torch.device("mps"))


def test_bfloat16_sums_are_float32_inside() -> None:
    before = CUDA.allow_bf16_reduced_precision_reduction
    with full_float32("cpu"):
        assert CUDA.allow_bf16_reduced_precision_reduction is False
    assert CUDA.allow_bf16_reduced_precision_reduction == before
