"""Labels and indices as users have them -> NumPy's integers."""

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor


def as_integers(name: str, values: Any) -> npt.NDArray[np.int64]:
    """Return a tensor, an array, a list or a pandas Series of integers as int64; nothing is rounded.

    Args:
        name: the argument's, for the error.
        values: of any shape.

    Raises:
        TypeError: they are not integers.

    Example:
        >>> as_integers("labels", [2, 0])
        array([2, 0])
        >>> as_integers("labels", [0.5, 1.0])
        Traceback (most recent call last):
        ...
        TypeError: labels must be integers, got float64
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.size > 0 and array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    return array.astype(np.int64)
