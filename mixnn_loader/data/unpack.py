"""A collated batch -> its inputs and its labels."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor

from mixnn_loader._utils.sample_keys import INPUT_NAMES, LABEL_NAMES, TOKEN_NAMES

Unpack = Callable[[Any], tuple[Any, ...]]
"""``collated batch -> (inputs, labels)``, and whatever else is in it."""


def resolve_unpack(unpack: Unpack | tuple[Hashable, Hashable] | None) -> Unpack:
    """Turn the user's ``unpack`` argument into a function.

    Args:
        unpack: a function ``batch -> (inputs, labels)`` of the collated batch; or the two keys (or positions) of
            inputs and labels in it, such as ``("image", "label")``; or None for batches ``(inputs, labels, ...)``, and
            for mappings with one of `LABEL_NAMES`: inputs are one of `INPUT_NAMES`, or with one of `TOKEN_NAMES` all
            tensors besides the label, in a dict. What is left follows: of a tuple its other parts, of a mapping a dict.

    Raises:
        TypeError: it is none of these.
    """
    if unpack is None:
        return _first_two
    if callable(unpack):
        return unpack
    if isinstance(unpack, (tuple, list)) and len(unpack) == 2:
        keys: tuple[Hashable, Hashable] = (unpack[0], unpack[1])
        return lambda batch: (_pick(batch, keys[0]), _pick(batch, keys[1]), *_rest(batch, keys))
    raise TypeError(
        "unpack must be a function batch -> (inputs, labels) or a pair of keys such as ('image', 'label'), got "
        f"{unpack!r}"
    )


def _first_two(batch: Any) -> tuple[Any, ...]:
    if isinstance(batch, Mapping):
        inputs = [name for name in INPUT_NAMES if name in batch]
        labels = [name for name in LABEL_NAMES if name in batch]
        if len(labels) == 1 and any(name in batch for name in TOKEN_NAMES):
            parts = {key: value for key, value in batch.items() if key != labels[0] and isinstance(value, Tensor)}
            return parts, batch[labels[0]], *_rest(batch, (*parts, labels[0]))
        if len(inputs) == len(labels) == 1:
            return batch[inputs[0]], batch[labels[0]], *_rest(batch, (inputs[0], labels[0]))
        raise TypeError(
            f"the samples are mappings with the keys {list(batch)}; pass unpack=, the pair of keys of inputs and "
            "labels, such as unpack=('image', 'label')"
        )
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise TypeError(
            f"samples must be (inputs, label, ...), got a batch of type {type(batch).__name__}; pass unpack=, a "
            "function batch -> (inputs, labels)"
        )
    return tuple(batch)


def _rest(batch: Any, taken: Sequence[Hashable]) -> tuple[Any, ...]:
    """Return what is left of a batch: of a tuple its other parts, of a mapping one dict; nothing where nothing is."""
    if isinstance(batch, Mapping):
        left = {key: value for key, value in batch.items() if key not in taken}
        return (left,) if left else ()
    if not isinstance(batch, (tuple, list)):
        return ()
    places = {place % len(batch) for place in taken if isinstance(place, int)}
    return tuple(part for place, part in enumerate(batch) if place not in places)


def _pick(batch: Any, key: Hashable) -> Any:
    try:
        if isinstance(batch, Tensor):
            raise TypeError("a tensor has no keys")
        return batch[key]
    except (KeyError, IndexError, TypeError) as error:
        known = f"its keys are {list(batch)}" if isinstance(batch, Mapping) else f"it is a {type(batch).__name__}"
        raise TypeError(f"unpack={key!r} is not in the batch; {known}") from error
