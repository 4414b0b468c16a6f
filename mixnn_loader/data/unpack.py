"""A collated batch -> its inputs and its labels."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from torch import Tensor

from mixnn_loader._utils.sample_keys import INPUT_NAMES, LABEL_NAMES, TOKEN_NAMES

Unpack = Callable[[Any], tuple[Any, Any]]
"""``collated batch -> (inputs, labels)``."""


def resolve_unpack(unpack: Unpack | tuple[Hashable, Hashable] | None) -> Unpack:
    """Turn the user's ``unpack`` argument into a function.

    Args:
        unpack: a function ``batch -> (inputs, labels)`` of the collated batch; or the two keys (or positions) of
            inputs and labels in it, such as ``("image", "label")``; or None for batches ``(inputs, labels, ...)``, and
            for mappings with one of `LABEL_NAMES`: inputs are one of `INPUT_NAMES`, or with one of `TOKEN_NAMES` all
            tensors besides the label, in a dict.

    Raises:
        TypeError: it is none of these.
    """
    if unpack is None:
        return _first_two
    if callable(unpack):
        return unpack
    if isinstance(unpack, (tuple, list)) and len(unpack) == 2:
        inputs_key, labels_key = unpack
        return lambda batch: (_pick(batch, inputs_key), _pick(batch, labels_key))
    raise TypeError(
        "unpack must be a function batch -> (inputs, labels) or a pair of keys such as ('image', 'label'), got "
        f"{unpack!r}"
    )


def _first_two(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        inputs = [name for name in INPUT_NAMES if name in batch]
        labels = [name for name in LABEL_NAMES if name in batch]
        if len(inputs) == len(labels) == 1:
            return batch[inputs[0]], batch[labels[0]]
        if len(labels) == 1 and any(name in batch for name in TOKEN_NAMES):
            parts = {key: value for key, value in batch.items() if key != labels[0] and isinstance(value, Tensor)}
            return parts, batch[labels[0]]
        raise TypeError(
            f"the samples are mappings with the keys {list(batch)}; pass unpack=, the pair of keys of inputs and "
            "labels, such as unpack=('image', 'label')"
        )
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise TypeError(
            f"samples must be (inputs, label, ...), got a batch of type {type(batch).__name__}; pass unpack=, a "
            "function batch -> (inputs, labels)"
        )
    return batch[0], batch[1]


def _pick(batch: Any, key: Hashable) -> Any:
    try:
        if isinstance(batch, Tensor):
            raise TypeError("a tensor has no keys")
        return batch[key]
    except (KeyError, IndexError, TypeError) as error:
        known = f"its keys are {list(batch)}" if isinstance(batch, Mapping) else f"it is a {type(batch).__name__}"
        raise TypeError(f"unpack={key!r} is not in the batch; {known}") from error
