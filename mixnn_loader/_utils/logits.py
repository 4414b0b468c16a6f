"""Where a model's output has its logits."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

TOLERANCE = 1e-2
"""Of a sum of probabilities in half precision, of bfloat16 above all."""


def logits_of(output: Any) -> Any:
    """Return the logits of an output that has them by that name, as Hugging Face's models give it; else the output."""
    if isinstance(output, (Tensor, tuple)):  # of a tuple there may be others, for heads of their own
        return output
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    return named if isinstance(named, Tensor) else output


def are_probabilities(logits: Tensor) -> bool:
    """Whether logits (B, C) are rather what a softmax makes of them; this waits for the device."""
    if len(logits) == 0:
        return False
    in_range = (logits >= 0) & (logits <= 1 + TOLERANCE)
    sums_to_one = (logits.sum(dim=1) - 1).abs() <= TOLERANCE
    return bool(in_range.all()) and bool(sums_to_one.all())
