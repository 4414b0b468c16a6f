"""The progress bar."""

import sys

import pytest

from mixnn_loader.progress import with_progress


def test_passes_the_items_on_under_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(with_progress(iter("abc"), "scan, epoch 3", 3)) == ["a", "b", "c"]
    shown = capsys.readouterr()
    assert "scan, epoch 3" in shown.err
    assert "/3" in shown.err
    assert shown.out == ""


def test_a_missing_tqdm_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match="progress=True needs tqdm: python -m pip install tqdm"):
        with_progress([], "scan", 0)
