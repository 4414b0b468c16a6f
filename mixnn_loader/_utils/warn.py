"""Warnings that point at the user's line, not at the library's."""

import inspect
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parent.parent)

_BETWEEN = ("contextlib.py", "weakref.py", str(Path("torch", "nn", "modules", "module.py")))
"""Files through which the library calls itself, or a module's ``forward`` is called."""


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Give a warning at the innermost line of the call that is not the library's own.

    Args:
        message: the text.
        category: its class.

    Warns:
        Warning: always, of that class.
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and _is_own(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level if frame is not None else 2)


def _is_own(file: str) -> bool:
    return file.startswith(_PACKAGE) or file.endswith(_BETWEEN)
