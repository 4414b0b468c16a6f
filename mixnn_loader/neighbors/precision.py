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
    cuda: Any = torch.backends.cuda.matmul
    mkldnn: Any = torch.backends.mkldnn
    # By default CUDA may add up the parts of a split bfloat16 product in bfloat16.
    switches: list[tuple[Any, str, object]] = [(cuda, "allow_bf16_reduced_precision_reduction", False)]
    # From torch 2.9 there is a switch for each backend, and the older switch for all of them raises an
    # error once the user has touched a newer one.
    old = None if hasattr(cuda, "fp32_precision") else torch.get_float32_matmul_precision()
    if old is None:
        switches += [(cuda, "fp32_precision", "ieee"), (mkldnn.matmul, "fp32_precision", "ieee")]
    before = [getattr(backend, name) for backend, name, _ in switches]
    try:
        for backend, name, value in switches:
            setattr(backend, name, value)
        if old is not None:
            torch.set_float32_matmul_precision("highest")
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for (backend, name, _), value in zip(switches, before, strict=True):
            setattr(backend, name, value)
        if old is not None:
            torch.set_float32_matmul_precision(old)


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
