"""How the model is run by the loader: in eval mode, as it was written, and under which autocast."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, and every module's ``training`` flag back on leaving.

    The flags are set one by one: ``model.train()`` would wake up a BatchNorm that the user froze, and may be
    overridden to do more than set flags.
    """
    trained = [module for module in model.modules() if module.training]
    for module in trained:
        module.training = False
    try:
        yield
    finally:
        for module in trained:
            module.training = True


def without_compilation() -> AbstractContextManager[object]:
    """Run compiled modules, too, as they were written: compiled code may ignore hooks."""
    # Importing the compiler takes seconds. Where nobody has, there is nothing compiled.
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Run under `torch.autocast` with ``dtype``; None: as the caller's context has it.

    Without a cache of its own, a weight cast here without gradient could be what the caller's forward pass under the
    same autocast gets, and would never be trained.
    """
    kind = device.type
    if not torch.amp.is_autocast_available(kind):
        return nullcontext()
    if dtype is None:
        dtype, enabled = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
    else:
        enabled = True
    return torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False)
