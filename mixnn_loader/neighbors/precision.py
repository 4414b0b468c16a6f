"""Matrix products in real float32, whatever speed-ups the surrounding training has switched on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_float32(device_type: str) -> Iterator[None]:
    """Turn autocast, TF32 and bfloat16 products off inside the block, and back as they were after it.

    A squared distance is a small difference of large products; the 10 bits of TF32 do not reach it.
    https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
    """
    with torch.autocast(device_type, enabled=False), _ieee_products():
        yield


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
