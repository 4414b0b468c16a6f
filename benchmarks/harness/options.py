"""Finds out before a training whether a method takes the options that are asked for."""

import inspect
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, get_args

from benchmarks.harness.settings import SettingError

PLAIN = {int, float, bool, str, NoneType}


def check_options(method: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Check names, and the kinds of plain values.

    Args:
        method: its name.
        factory: its class or function, whose first argument is the task.
        options: further arguments.

    Raises:
        SettingError: an option is unknown, or its value is of another kind.
    """
    signature = inspect.signature(factory)
    try:
        signature.bind(None, **options)
    except TypeError as error:
        names = ", ".join(list(signature.parameters)[1:]) or "none"
        raise SettingError("options", f"{method}: {error}; its options: {names}") from error
    for name, value in options.items():
        hint = signature.parameters[name].annotation if name in signature.parameters else None
        kinds = set(get_args(hint)) or {hint}
        if not kinds <= PLAIN:  # such as arguments that are passed on: who gets them checks them
            continue
        # An integer is a number to Python, and True an integer; the latter is a mistake here.
        accepted = kinds | ({int} if float in kinds else set())
        if type(value) not in accepted:
            wanted = " or ".join(sorted("None" if kind is NoneType else kind.__name__ for kind in kinds))
            raise SettingError("options", f"{method}: {name} must be {wanted}, got {value!r}")
