"""A progress bar for the pass that the user's own loop does not see."""

from collections.abc import Callable
from typing import Any


def progress_bar() -> Callable[..., Any]:
    """Return tqdm, which wraps an iterable and shows a bar on standard error while it is consumed.

    Raises:
        ImportError: tqdm is not installed.
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: python -m pip install tqdm") from error
    bar: Callable[..., Any] = tqdm
    return bar
