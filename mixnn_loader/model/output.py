"""What the user's model returned: brought into one form, or refused with the words that adapt it."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mixnn_loader._utils.logits import logits_of


def wide_logits(output: Any, source: str = "the model") -> Tensor:
    """Check that an output is logits, or has them by that name, and return them in float32 or wider, (B, C).

    Args:
        output: what the model returned.
        source: who returned it, for the message.

    Raises:
        TypeError: it is not a tensor; the message says where in it the logits may be.
        ValueError: it is not (B, C) with C >= 2.
    """
    output = logits_of(output)
    if not isinstance(output, Tensor):
        raise TypeError(
            f"{source} must return logits (B, C) as one tensor, got {_described(output)}; pass feature_layer=, a "
            f"function (model, inputs) -> (logits, representations), in which the logits are {_place_of_logits(output)}"
        )
    if output.dim() == 1 or (output.dim() == 2 and output.shape[1] == 1):
        raise ValueError(
            f"{source} must return logits (B, C) of two classes or more, got shape {tuple(output.shape)}; keep both "
            "dimensions, and in place of one output and a sigmoid give the last layer two outputs, for labels 0 and 1 "
            "(a number for a sample, as in a regression, is not supported)"
        )
    if output.dim() != 2:
        raise ValueError(
            f"{source} must return logits (B, C), got shape {tuple(output.shape)}; average over the other dimensions "
            "in the model, to one row of class scores a sample (a class for each pixel, as in a segmentation, is not "
            "supported)"
        )
    return output.to(torch.promote_types(output.dtype, torch.float32))


def checked_pair(answer: Any) -> tuple[Any, Any]:
    """Check that a feature function returned two things.

    Raises:
        TypeError: it returned something else.
    """
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TypeError(
            "a function passed as feature_layer= must return the pair (logits, representations), got "
            f"{_described(answer)}"
        )
    return answer


def flat_rows(representations: Any, num_rows: int) -> Tensor:
    """Flatten representations (B, ...) to (B, d) float32.

    Raises:
        TypeError: they are not a tensor.
        ValueError: they are not of ``num_rows`` samples.
    """
    if not isinstance(representations, Tensor):
        raise TypeError(
            f"representations must be one tensor with a row for each of the {num_rows} inputs, got "
            f"{_described(representations)}; pass another feature_layer="
        )
    if representations.shape[:1] != (num_rows,):
        raise ValueError(
            f"representations must have a row for each of the {num_rows} inputs, got shape "
            f"{tuple(representations.shape)}; pass another feature_layer="
        )
    return representations.reshape(num_rows, math.prod(representations.shape[1:])).float()  # of an empty batch, too


def _described(output: Any) -> str:
    kind = type(output).__name__
    if isinstance(output, Mapping):
        return f"{kind} with the keys {list(output)}"
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return f"{kind} with the fields {list(output._fields)}"
    if isinstance(output, (tuple, list)):
        return f"{kind} of {len(output)}"
    return kind


def _place_of_logits(output: Any) -> str:
    entries: Iterable[tuple[Any, Any]] = ()
    if isinstance(output, Mapping):
        entries = output.items()
    elif isinstance(output, (tuple, list)):
        entries = enumerate(output)
    places = [place for place, value in entries if isinstance(value, Tensor) and value.dim() == 2]
    return f"perhaps model(inputs)[{places[0]!r}]" if places else "made of model(inputs)"
