"""The wrappers that a model may come in, and the module inside."""

from typing import cast

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside any wrappers.

    These are `DistributedDataParallel`, `DataParallel`, `torch.compile` and `torch.optim.swa_utils.AveragedModel`, of
    which the inner module is the average. Others are left as they are: what they do in their ``forward`` may matter.
    """
    while True:
        inner = calls_inside(model)
        if inner is None:  # not `or`: a module may have a length
            inner = compiled_inside(model)
        if inner is None:
            return model
        model = inner


def calls_inside(model: nn.Module) -> nn.Module | None:
    """Return the module whose call a wrapper's own call leads to; None where the model is no such wrapper."""
    if isinstance(model, (DistributedDataParallel, nn.DataParallel, AveragedModel)):
        return cast(nn.Module, model.module)
    return None


def compiled_inside(model: nn.Module) -> nn.Module | None:
    """Return the module that `torch.compile` was called on; None where the model is not what it returned."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else None
