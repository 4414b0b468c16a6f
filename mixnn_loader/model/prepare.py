"""What the user's loop does to a batch before the model, done to the loader's own batches, too."""

from collections.abc import Callable
from typing import Any

from mixnn_loader._utils.nested import tensors_of

Prepare = Callable[[Any], Any]
"""``inputs -> inputs``, a nest of tensors (B, ...) on the device each: normalization, a crop, a change of type."""


def check_prepare(prepare: Any) -> None:
    """Check that ``prepare`` can be called, or is None.

    Raises:
        TypeError: it is something else.
    """
    if prepare is not None and not callable(prepare):
        raise TypeError(f"prepare must be None or a function inputs -> inputs, got {type(prepare).__name__}")


def prepared(prepare: Prepare, inputs: Any) -> Any:
    """Return ``prepare(inputs)``.

    Args:
        prepare: the user's function; it may work in place.
        inputs: a nest of tensors (B, ...).

    Raises:
        TypeError: it returned something else than a nest of tensors.
        ValueError: it returned no tensor, or one of other rows.
    """
    # With mix_layer= and neighbors that are loaded besides, what goes to the layer has more rows than the rest.
    num_rows = list(dict.fromkeys(len(tensor) for tensor in tensors_of(inputs)))
    outputs = prepare(inputs)
    try:
        tensors = tensors_of(outputs)
    except TypeError as error:
        raise TypeError(
            "the function passed as prepare= must return what the model takes, a tensor or a tuple, list or dict of "
            f"tensors and nothing else, got {type(outputs).__name__}"
        ) from error
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if not shapes or any(not shape or shape[0] not in num_rows for shape in shapes):
        raise ValueError(
            f"the function passed as prepare= must return a row for each of the {num_rows[0]} inputs, got shape "
            f"{', '.join(map(str, shapes)) or '() of nothing'}"
        )
    return outputs
