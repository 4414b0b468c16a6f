"""Where a model is and what it takes, and what to say where its batches are elsewhere or something else."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from mixnn_loader._utils.nested import tensors_of

DEVICE_MESSAGES = ("same device", "expected device", "should be the same")
"""How PyTorch says that a layer's input and weight are not on one device."""

TYPE_MESSAGES = ("same dtype", "input dtype", "scalar type", "should be the same", "must have the type")
"""How PyTorch says that they are not of one type."""


def device_of(model: nn.Module) -> torch.device:
    """Return where the model's first parameter is, or else its first buffer; the CPU if it has neither."""
    tensor = next(_named_tensors(model), None)
    return torch.device("cpu") if tensor is None else tensor[1].device


def devices_of(model: nn.Module) -> set[torch.device]:
    """Return where a model's parameters and buffers are: one place of most models."""
    return {tensor.device for _, tensor in _named_tensors(model)}


@contextmanager
def mismatch_named(model: nn.Module, inputs: Any, device: torch.device) -> Iterator[None]:
    """Say of a forward pass that fails over devices or types which those of the batch and of the model are.

    Only then: a model may well be on several devices, cast its inputs, or bring its weights from elsewhere when they
    are needed.

    Args:
        model: the model that is run.
        inputs: what it is run on.
        device: where they are.

    Raises:
        ValueError: in place of an error about devices, if some of the model is elsewhere than ``device``, or about
            types, if the inputs are of another than the model.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        explained = _other_device(model, device, str(error)) or _other_type(model, inputs, device, str(error))
        if explained is None:
            raise
        raise ValueError(explained) from error


def called(model: nn.Module, inputs: Any) -> Any:
    """Return ``model(inputs)``, or ``model(**inputs)`` where ``forward`` takes the parts of a mapping by their names.

    Raises:
        TypeError: the model's ``forward`` can be called neither way.
    """
    if isinstance(inputs, Mapping) and _takes_by_name(model, inputs):
        return model(**inputs)
    try:
        return model(inputs)
    except TypeError as error:
        signature = inspect.signature(model.forward)
        try:
            signature.bind(inputs)
        except TypeError:
            raise TypeError(
                f"the model is called as model(inputs), and its forward takes {tuple(signature.parameters)}; pass "
                "feature_layer=, a function (model, inputs) -> (logits, representations), which calls it otherwise, "
                "such as model(*inputs)"
            ) from error
        raise


def _takes_by_name(model: nn.Module, inputs: Mapping[Any, Any]) -> bool:
    if not all(isinstance(name, str) for name in inputs):
        return False
    kinds = {name: parameter.kind for name, parameter in inspect.signature(model.forward).parameters.items()}
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds.values()
    takes_one = set(kinds.values()) - {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    # Whatever `**kwargs` take, a forward that has none of the names, and a place for one argument, takes the mapping.
    if not set(inputs) <= set(kinds) and not (takes_any and (set(inputs) & set(kinds) or not takes_one)):
        return False
    try:
        inspect.signature(model.forward).bind(**inputs)
    except TypeError:
        return False
    return True


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


def _other_device(model: nn.Module, device: torch.device, message: str) -> str | None:
    others = {str(tensor.device) for _, tensor in _named_tensors(model) if not _same(tensor.device, device)}
    if not others or not any(known in message for known in DEVICE_MESSAGES):
        return None
    return (
        f"device is {str(device)!r}, where batches go, and parameters of the model are on "
        f"{', '.join(map(repr, sorted(others)))}; move the model, model.to({str(device)!r}), or pass as device= "
        "where its first layer is"
    )


def _other_type(model: nn.Module, inputs: Any, device: torch.device, message: str) -> str | None:
    own = next((tensor.dtype for _, tensor in _named_tensors(model) if tensor.is_floating_point()), None)
    others = {str(tensor.dtype) for tensor in tensors_of(inputs) if tensor.is_floating_point() and tensor.dtype != own}
    if own is None or not others or not any(known in message for known in TYPE_MESSAGES):
        return None
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return None
    return (
        f"inputs are {', '.join(sorted(others))} and the model is {own}; convert the inputs in the dataset's "
        f"transform, x.to({own}), or keep the model in float32 and pass autocast_dtype= for lower precision"
    )


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(model.named_parameters(), model.named_buffers())


def _same(one: torch.device, other: torch.device) -> bool:
    # A device without a number is the current one of its kind.
    return one.type == other.type and (one.index == other.index or None in (one.index, other.index))
