"""What the loader gave compared with what the model got: is it the same but for rounding and order?"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixnn_loader._utils.nested import map_tensors, tensors_of
from mixnn_loader._utils.random_state import kept_random_state, stream_positions
from mixnn_loader.model.prepare import Prepare, prepared

NUM_PROBES = 8
"""Rows that are looked for where the model got more or fewer than the batch has: the first, the last, and between."""

MIN_TOLERANCE = 1e-5
"""Relative to the largest value: by so much two ways to compute the same in float32 may differ."""


class Given(NamedTuple):
    """What the model is expected to get.

    Attributes:
        tensors: (B, ...) each, floating-point or images of bytes, by what to call them.
        source: who made them, as the start of a clause.
        fixed: they are what the loop's are; False where random numbers made them, so that only shapes can be compared.
    """

    tensors: dict[str, Tensor]
    source: str
    fixed: bool


def expected(inputs: Any, prepare: Prepare | None) -> Given:
    """Say what the model is expected to get.

    Args:
        inputs: what the loader gave, a nest of tensors (B, ...); left as they are.
        prepare: see `mixnn_loader.model.predictor.ModelView`. It is called twice, to see whether it is random.
    """
    if prepare is None:
        return Given(dict(_named(inputs, "inputs")), "the loader gave", fixed=True)
    devices = {tensor.device for tensor in tensors_of(inputs)}
    with kept_random_state(devices):
        before = stream_positions(devices)
        one, other = (dict(_named(prepared(prepare, map_tensors(torch.clone, inputs)), "inputs")) for _ in range(2))
        # A random flip may do the same twice.
        fixed = stream_positions(devices) == before
    tensors = {name: tensor for name, tensor in one.items() if name in other and other[name].shape == tensor.shape}
    fixed = fixed and all(_close(tensor, other[name]).all() for name, tensor in tensors.items())
    return Given(tensors, "prepare= made", fixed)


def difference(given: Given, call: Any) -> str | None:
    """Say how what the model got differs from what was given, as a clause; None: not at all, or it cannot be told.

    Every given tensor has to be among the arguments, in whatever nest, type, device and memory format. Part of its
    rows will do, as will more rows than its own, and another order.

    Args:
        given: see `expected`.
        call: the arguments of the model's call.
    """
    got = list(_tensors_in(call))
    if not got:
        return None
    for name, tensor in given.tensors.items():
        if not any(_holds(other, tensor, compare_values=given.fixed) for other in got):
            return _described(name, tensor, got, given)
    return None


def _holds(got: Tensor, tensor: Tensor, *, compare_values: bool) -> bool:
    """Say whether a tensor has the rows of a given one (B, ...), or some of them."""
    if got.dim() == 0 or got.shape[1:] != tensor.shape[1:]:
        return False
    if not compare_values or len(got) == 0 or len(tensor) == 0:
        return True
    tensor = tensor.to(got.device)
    if got.shape == tensor.shape and bool(_close(got, tensor).all()):
        return True
    few, many = (got, tensor) if len(got) < len(tensor) else (tensor, got)
    probes = {round(place * (len(few) - 1) / (NUM_PROBES - 1)) for place in range(NUM_PROBES)}
    return all(bool(_close(many, few[probe]).reshape(len(many), -1).all(dim=1).any()) for probe in probes)


def _close(one: Tensor, other: Tensor) -> Tensor:
    """Say which values are equal up to the rounding of the coarser type."""
    scale = other.float().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).abs().max()
    resolutions = [torch.finfo(tensor.dtype).eps for tensor in (one, other) if tensor.is_floating_point()]
    tolerance = max([MIN_TOLERANCE, *resolutions])
    return torch.isclose(one.float(), other.float(), rtol=tolerance, atol=float(tolerance * scale), equal_nan=True)


def _described(name: str, tensor: Tensor, got: list[Tensor], given: Given) -> str:
    numbers = [other for other in got if other.is_floating_point()] or got
    shape = tuple(tensor.shape)
    likest = max(numbers, key=lambda other: (other.shape[1:] == shape[1:], other.dim() == len(shape), other.numel()))
    if likest.shape[1:] != shape[1:] or likest.dim() == 0:
        return f"{given.source} {name} of shape {shape}, the model got inputs of shape {tuple(likest.shape)}"
    own, others = _range(tensor), _range(likest)
    if own != others:
        return f"{given.source} {name} {own}, the model got inputs {others}"
    clause = f"{given.source} {name} {own}, the model got inputs that are so, too, but others"
    if likest.shape != shape:
        return clause
    apart = (likest.float() - tensor.to(likest.device).float()).abs().nan_to_num(nan=0.0, posinf=0.0).mean()
    return f"{clause}: they are {float(apart):.2g} apart on average"


def _range(tensor: Tensor) -> str:
    values = tensor.float()
    values = values[values.isfinite()]
    if values.numel() == 0:
        return "without a finite value"
    smallest, largest = values.aminmax()
    return f"between {float(smallest) + 0.0:.3g} and {float(largest) + 0.0:.3g}"  # 0 for -0


def _named(nest: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """List the tensors of a nest that are to be compared, by the expression for each."""
    if isinstance(nest, Tensor):
        if nest.is_floating_point() or (nest.dtype == torch.uint8 and nest.dim() > 2):
            yield name, nest
    elif isinstance(nest, Mapping):
        for key, value in nest.items():
            yield from _named(value, f"{name}[{key!r}]")
    else:
        for place, value in enumerate(nest):
            yield from _named(value, f"{name}[{place}]")


def _tensors_in(arguments: Any) -> Iterator[Tensor]:
    """List the tensors in arguments whose values can be read, and leave out whatever else there is."""
    if isinstance(arguments, Tensor):
        readable = not (arguments.is_meta or arguments.is_quantized or arguments.is_complex() or arguments.is_nested)
        if readable and arguments.layout == torch.strided and not hasattr(arguments, "to_local"):
            yield arguments.detach()
    elif isinstance(arguments, Mapping):
        for value in arguments.values():
            yield from _tensors_in(value)
    elif isinstance(arguments, (tuple, list)):
        for value in arguments:
            yield from _tensors_in(value)
