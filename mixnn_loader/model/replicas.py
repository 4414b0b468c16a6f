"""A model that several processes train: the same on each, and whole on each."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mixnn_loader._utils.processes import Processes


@contextmanager
def buffers_of_first(model: nn.Module, processes: Processes) -> Iterator[None]:
    """Give a model the first process's buffers, such as BatchNorm's statistics, and its own back on leaving.

    `torch.nn.parallel.DistributedDataParallel` does so before each forward pass of the training, but every process
    then takes up its own part of the batch in them.

    Args:
        model: the same on every process but for its buffers.
        processes: which share it.
    """
    buffers = list(model.buffers()) if processes.size > 1 else []
    own = [buffer.clone() for buffer in buffers]
    try:
        with torch.no_grad():
            for buffer in buffers:
                buffer.copy_(processes.first(buffer))
        yield
    finally:
        with torch.no_grad():
            for buffer, before in zip(buffers, own, strict=True):
                buffer.copy_(before)


def check_whole(model: nn.Module) -> None:
    """Check that this process has the whole model.

    Raises:
        TypeError: it is sharded by FSDP.
    """
    # Importing it takes a second. Where nobody has, nothing is sharded.
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None:
        return
    for name, module in model.named_modules():
        if isinstance(module, (fsdp.FullyShardedDataParallel, fsdp.FSDPModule)):
            raise TypeError(
                f"model must be whole on every process, but {name or 'it'!r} is sharded by FSDP "
                f"({type(module).__name__}): its forward passes wait for all processes, and MixNN's scan gives them "
                "different numbers of batches; use DistributedDataParallel"
            )
