"""Where a model is, and what to do where that is not where its batches go."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

MESSAGES = ("same device", "expected device", "should be the same")
"""How PyTorch says that a layer's input and weight are not on one device."""


def device_of(model: nn.Module) -> torch.device:
    """Return where the model's first parameter is, or else its first buffer; the CPU if it has neither."""
    tensor = next(_named_tensors(model), None)
    return torch.device("cpu") if tensor is None else tensor[1].device


@contextmanager
def device_mismatch_named(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Say of a forward pass that fails over devices where the batch is and where the model.

    Only then: a model may well be on several devices, or bring its weights from elsewhere when they are needed.

    Args:
        model: the model that is run.
        device: where its inputs are.

    Raises:
        ValueError: in place of a `RuntimeError` about devices, if some of the model is elsewhere than ``device``.
    """
    try:
        yield
    except RuntimeError as error:
        others = {str(tensor.device) for _, tensor in _named_tensors(model) if not _same(tensor.device, device)}
        if not others or not any(message in str(error) for message in MESSAGES):
            raise
        raise ValueError(
            f"device is {str(device)!r}, where batches go, and parameters of the model are on "
            f"{', '.join(map(repr, sorted(others)))}; move the model, model.to({str(device)!r}), or pass as device= "
            "where its first layer is"
        ) from error


def check_initialized(model: nn.Module) -> None:
    """Refuse a model whose lazy modules have not seen a batch.

    The loader's own forward pass must not be the one that draws their weights: it is not to take anything from the
    caller's random stream.

    Raises:
        ValueError: the model has a parameter or buffer without a shape.
    """
    for name, tensor in _named_tensors(model):
        if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            raise ValueError(
                f"model must be initialized, got lazy modules that have not seen a batch yet, as that of {name!r}; run "
                "one batch of the plain loader through it first, as its optimizer needs, too: model(inputs)"
            )


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(model.named_parameters(), model.named_buffers())


def _same(one: torch.device, other: torch.device) -> bool:
    # A device without a number is the current one of its kind.
    return one.type == other.type and (one.index == other.index or None in (one.index, other.index))
