"""Progress of the pass that the user's own loop does not see: a bar on a terminal, a line in a log file."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from mixnn_loader._utils.log import logger

Item = TypeVar("Item")


def progress_bar() -> Callable[..., Any]:
    """Return what wraps an iterable, ``(items, *, desc, leave) -> items``, and tells how far it has been consumed.

    On a terminal that is tqdm's bar. Where standard error is no terminal, a bar would fill the log with redrawn lines:
    one line at INFO then goes through `logging`, once the last item has been consumed.

    Raises:
        ImportError: tqdm is not installed.
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: python -m pip install tqdm") from error

    def wrap(items: Iterable[Any], *, desc: str, leave: bool = True) -> Iterable[Any]:
        if _on_terminal():
            bar: Iterable[Any] = tqdm(items, desc=desc, leave=leave)
            return bar
        return _logged(items, desc)

    return wrap


def _on_terminal() -> bool:
    # Asked at every pass, as standard error may be redirected meanwhile; there is none in a windowed program.
    return sys.stderr is not None and sys.stderr.isatty()


def _logged(items: Iterable[Item], desc: str) -> Iterator[Item]:
    started, count = time.perf_counter(), 0
    for item in items:
        yield item
        count += 1
    logger.info("%s: %d batches in %.1f s", desc, count, time.perf_counter() - started)
