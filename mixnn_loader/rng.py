"""Random numbers that leave the user's alone, and that depend on nothing but where in the training they are."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_rng(seed: int, *position: int) -> np.random.Generator:
    """Make a generator for one place of the training, for instance ``(epoch, batch)``.

    A resumed run thus draws what the uninterrupted one would have, with no generator state to be saved. Positions
    that differ only in zeros at the end are the same place.

    Example:
        >>> bool(derived_rng(0, 3, 7).integers(100) == derived_rng(0, 3, 7).integers(100))
        True
    """
    return np.random.default_rng([seed, *position])


@contextmanager
def forked_random_state(seed: int) -> Iterator[None]:
    """Seed the global CPU generators of Python, NumPy and PyTorch, and put them back as they were on leaving.

    A dataset's random transforms draw from these. Under this context an extra pass over the data leaves the
    numbers that the user's own pass will draw unchanged.

    Args:
        seed: an integer in [0, 2**32), NumPy's range.
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    torch_state = torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
