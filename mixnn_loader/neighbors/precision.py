"""The numbers that matrix products are made of, whatever speed-ups the surrounding training has switched on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

CPU_BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16")
"""Instruction sets with a bfloat16 product; by others it is emulated, and slower than float32."""


@contextmanager
def full_float32(device_type: str) -> Iterator[None]:
    """Turn autocast, TF32 and bfloat16 in place of float32 off inside the block, and back as they were after it.

    A squared distance is a small difference of large products; the 10 bits of TF32 do not reach it. Products of
    bfloat16 rows stay possible, and add up in float32.
    https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
    """
    with torch.autocast(device_type, enabled=False), _ieee_products(), _float32_sums():
        yield


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones.

    Older releases of torch do not tell for a CPU; the answer is then no.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(unit)) for unit in CPU_BFLOAT16_UNITS)


@contextmanager
def fast_float32(device: torch.device) -> Iterator[None]:
    """Let a CPU that multiplies bfloat16 fast round the float32 factors of products; sums and results stay float32.

    On others, and on accelerators, nothing changes.
    """
    products: Any = torch.backends.mkldnn
    if device.type != "cpu" or not hasattr(products, "matmul") or not has_fast_bfloat16(device):
        yield
        return
    before = products.matmul.fp32_precision
    products.matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.matmul.fp32_precision = before


@contextmanager
def _ieee_products() -> Iterator[None]:
    # From torch 2.9 there is a switch for each backend, and the older switch for all of them raises an
    # error once the user has touched a newer one.
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
        return

    backends: tuple[Any, ...] = (torch.backends.cuda, torch.backends.mkldnn)
    switches = [backend.matmul for backend in backends]
    settings = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, setting in zip(switches, settings, strict=True):
            switch.fp32_precision = setting


@contextmanager
def _float32_sums() -> Iterator[None]:
    # By default CUDA may add up the parts of a split bfloat16 product in bfloat16.
    products: Any = torch.backends.cuda.matmul
    before = products.allow_bf16_reduced_precision_reduction
    products.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        products.allow_bf16_reduced_precision_reduction = before
