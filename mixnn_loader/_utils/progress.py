"""Progress of the pass that the user's own loop does not see: a bar on a terminal or in a notebook, lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

from mixnn_loader._utils.log import logger

SECONDS_BETWEEN_LINES = 5.0
"""At least; a pass that is shorter says nothing before its end."""

Item = TypeVar("Item")


def progress_bar() -> Callable[..., Any]:
    """Return what wraps an iterable, ``(items, *, desc, leave) -> items``, and tells how far it has been consumed.

    On a terminal and in a notebook that is tqdm's bar. Elsewhere, as under nohup, a bar would fill the log with redrawn
    lines: of what takes long a line a tenth goes to standard error, and of each pass one at INFO through `logging`,
    once the last item has been consumed.

    Raises:
        ImportError: tqdm is not installed.
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: python -m pip install tqdm") from error

    def wrap(items: Iterable[Any], *, desc: str, leave: bool = True) -> Iterable[Any]:
        if _on_terminal() or "ipykernel" in sys.modules:
            bar: Iterable[Any] = tqdm(items, desc=desc, leave=leave)
            return bar
        return _logged(items, desc)

    return wrap


def _on_terminal() -> bool:
    # Asked at every pass, as standard error may be redirected meanwhile; there is none in a windowed program.
    return sys.stderr is not None and sys.stderr.isatty()


def _logged(items: Iterable[Item], desc: str) -> Iterator[Item]:
    total = len(items) if isinstance(items, Sized) else None
    started = told = time.perf_counter()
    count = tenths = 0
    for item in items:
        yield item
        count += 1
        now = time.perf_counter()
        if total is not None and 10 * count // total > tenths and now - told >= SECONDS_BETWEEN_LINES:
            tenths, told = 10 * count // total, now
            _tell(f"{desc}: {100 * count // total} %, {count} of {total} batches in {now - started:.0f} s")
    logger.info("%s: %d batches in %.1f s", desc, count, time.perf_counter() - started)


def _tell(line: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
