"""TOML files, in which ``"none"`` stands for None: TOML has no word for it."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path) -> dict[str, Any]:
    """Read a file.

    Raises:
        ValueError: it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from error


def with_none(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with None where it has ``"none"``."""
    return {name: None if value == "none" else value for name, value in table.items()}
