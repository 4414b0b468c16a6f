"""One function over every tensor of a nest: a tensor, or a tuple, list or dict of nests."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


def map_tensors(function: Callable[[Tensor], Tensor], nest: Any) -> Any:
    """Apply ``function`` to every tensor of ``nest`` in tuples, lists and dicts like the nest's.

    Args:
        function: called once a tensor.
        nest: a tensor, or a tuple, named tuple, list or dict of nests.

    Returns:
        A new nest of the same structure; ``nest`` itself is not changed.

    Raises:
        TypeError: a leaf is not a tensor.

    Example:
        >>> import torch
        >>> map_tensors(torch.neg, {"a": torch.tensor([1.0]), "b": (torch.tensor([2.0]),)})
        {'a': tensor([-1.]), 'b': (tensor([-2.]),)}
    """
    if isinstance(nest, Tensor):
        return function(nest)
    if isinstance(nest, Mapping):
        return {key: map_tensors(function, value) for key, value in nest.items()}
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        return type(nest)(*(map_tensors(function, value) for value in nest))
    if isinstance(nest, (tuple, list)):
        return type(nest)(map_tensors(function, value) for value in nest)
    raise TypeError(
        f"inputs must be a tensor or a tuple, list or dict of tensors, got a {type(nest).__name__} among them; "
        "pass unpack= to pick the tensors out of the batch"
    )


def tensors_of(nest: Any) -> list[Tensor]:
    """List the tensors of a nest, in the order in which `map_tensors` meets them.

    Raises:
        TypeError: a leaf is not a tensor.
    """
    found: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(collect, nest)
    return found
