"""The methods, one a file. Each file lists what it has in ``METHODS``; a new file is all that a new method takes."""

from importlib import import_module
from pkgutil import iter_modules

from benchmarks.harness.protocol import MethodFactory


def all_methods() -> dict[str, MethodFactory]:
    """Return every method by its name on the command line."""
    found: dict[str, MethodFactory] = {}
    for module in sorted(iter_modules(__path__), key=lambda module: module.name):
        found |= getattr(import_module(f"{__name__}.{module.name}"), "METHODS", {})
    return found
