"""A progress bar for the passes that the user's own loop does not see."""

from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def with_progress(items: Iterable[Item], description: str, total: int) -> Iterable[Item]:
    """Show a bar on standard error while ``items`` are consumed.

    Raises:
        ImportError: tqdm is not installed.
    """
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: python -m pip install tqdm") from error
    bar: Iterable[Item] = tqdm(items, desc=description, total=total, leave=False)
    return bar
