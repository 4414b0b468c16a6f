"""The progress bar."""

import sys

import pytest
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader
from mixnn_loader.progress import progress_bar


def test_passes_the_items_on_under_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar()([1, 2, 3], desc="scan, epoch 3")) == [1, 2, 3]
    shown = capsys.readouterr()
    assert "scan, epoch 3" in shown.err
    assert "/3" in shown.err
    assert shown.out == ""


def test_a_missing_tqdm_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="progress=True needs tqdm: python -m pip install tqdm"):
        MixNNDataLoader(Points(), mlp(), progress=True)


def test_the_scan_shows_the_bar_and_is_the_same_under_it(capsys: pytest.CaptureFixture[str]) -> None:
    loaders = [MixNNDataLoader(Points(), mlp(), batch_size=8, warmup_epochs=0, progress=p) for p in (True, False)]
    losses = []
    for loader in loaders:
        list(loader)
        losses.append(loader.losses.tolist())
    assert losses[0] == losses[1]
    assert "scan, epoch 0" in capsys.readouterr().err
