"""Optional dependencies that are not installed."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from mixnn_loader.neighbors import HNSWSearch


@pytest.mark.parametrize(
    ("package", "use", "command"),
    [
        ("nmslib", HNSWSearch, "python -m pip install nmslib"),
    ],
)
def test_a_missing_package(package: str, use: Callable[[], Any], command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=command):
        use()
