"""Copies from one device to another: the only place that lets one go on while the program runs on.

A copy to the host must have ended before the program reads it, and nothing says when a non-blocking one has: these
always block. A copy from the host needs page-locked memory to run beside the program.
"""

import torch
from torch import Tensor

STREAMED = ("cuda", "xpu")
"""Types of devices that copy from page-locked memory in the order of their streams, beside the program."""


def to_device(tensor: Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """Return the tensor on ``device``; itself if it is there and of that type already.

    To an accelerator the copy is queued like a kernel, whatever the memory that the tensor is in: what is queued
    after it sees it done, and the tensor may be dropped at once, but must not be written to. What travels is in the
    smaller of both types.

    Args:
        tensor: of any shape.
        device: where it goes.
        dtype: the type to convert to; None: as it is.
    """
    if dtype is not None and dtype.itemsize < tensor.dtype.itemsize:
        tensor = tensor.to(dtype=dtype)
    moved = _moved(tensor, torch.device(device))
    return moved if dtype is None else moved.to(dtype=dtype)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type not in STREAMED:  # the host; and MPS, which cannot copy beside the program without risk
        return tensor.to(device)
    if tensor.device.type != "cpu":
        return tensor.to(device, non_blocking=True)
    staged = _page_locked(tensor)
    return tensor.to(device) if staged is None else staged.to(device, non_blocking=True)


def _page_locked(tensor: Tensor) -> Tensor | None:
    """Return a tensor of the host in page-locked memory, itself if it is; None where there is no such form of it.

    The memory comes from PyTorch's cache, which gives it to nobody else before the copy from it has ended.
    """
    if tensor.layout != torch.strided or tensor.numel() == 0 or not _is_plain(tensor):
        return None
    # Not Tensor.pin_memory: it fails on expanded tensors, and copies what lies between the elements of a slice.
    return tensor if tensor.is_pinned() else torch.empty_like(tensor, pin_memory=True).copy_(tensor)


def _is_plain(tensor: Tensor) -> bool:
    """Whether a copy made element by element is of the same class; one with operators of its own may lose that."""
    own = getattr(type(tensor).__torch_function__, "__func__", None)
    return own in (None, getattr(Tensor.__torch_function__, "__func__", None))
