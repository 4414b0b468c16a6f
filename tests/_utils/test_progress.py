"""The progress bar: a bar on a terminal, a line in the log elsewhere."""

import io
import logging
import os
import struct
import sys
import time
from collections.abc import Callable
from types import ModuleType

import pytest
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader
from mixnn_loader._utils.progress import progress_bar

NUM_SAMPLES = 40  # of `Points`
END = "(end)"


def on_terminal(monkeypatch: pytest.MonkeyPatch, write: Callable[[], None]) -> str:
    """Let standard error be a terminal of 100 columns while ``write`` is called; return what was shown there."""
    for name in ("fcntl", "pty", "termios"):
        pytest.importorskip(name, reason="needs a pseudo-terminal")
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 25, 100, 0, 0))
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(theirs, "w") as terminal:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            write()
        terminal.write(END)
        terminal.flush()
        shown = ""
        while not shown.endswith(END):  # it comes through in pieces
            shown += screen.read(2**16).decode("ascii", "replace")
        return shown.removesuffix(END)


def trained(*, progress: bool) -> list[float]:
    """Scan twice; return the losses of the second scan."""
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8, warmup_epochs=0, progress=progress)
    for _ in range(2):
        list(loader)
    losses: list[float] = loader.losses.tolist()
    return losses


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    items: list[int] = []
    with caplog.at_level(logging.INFO):
        shown = on_terminal(monkeypatch, lambda: items.extend(progress_bar()([1, 2, 3], desc="scan, epoch 3")))
    assert items == [1, 2, 3]
    assert "scan, epoch 3" in shown
    assert "3/3" in shown
    assert "\r" in shown
    assert caplog.records == []


def test_a_line_in_the_log_elsewhere(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        items = iter(progress_bar()([1, 2, 3], desc="scan, epoch 3", leave=False))
        assert list(items) == [1, 2, 3]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("mixnn_loader", logging.INFO)
    assert record.getMessage().startswith("scan, epoch 3: 3 batches in ")
    assert capsys.readouterr() == ("", "")


def test_of_what_takes_long_a_line_a_tenth(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter(range(0, 10_000, 3))  # three seconds an item
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    assert list(progress_bar()(list(range(40)), desc="scan, epoch 3")) == list(range(40))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" batches")[0] for line in lines] == [
        f"scan, epoch 3: {10 * tenth} %, {4 * tenth} of 40" for tenth in range(1, 11)
    ]
    assert lines[0].endswith("in 12 s")


def test_a_bar_in_a_notebook(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    assert list(progress_bar()([1, 2, 3], desc="scan")) == [1, 2, 3]
    assert "3/3" in capsys.readouterr().err


def test_a_pass_that_ends_early_is_not_said_to_be_over(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        items = iter(progress_bar()([1, 2, 3], desc="scan"))
        assert next(items) == 1
        del items
    assert caplog.records == []


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_any_standard_error_will_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stream: io.StringIO | None
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with caplog.at_level(logging.INFO):
        assert list(progress_bar()([1, 2, 3], desc="scan")) == [1, 2, 3]
    assert len(caplog.records) == 1
    assert stream is None or stream.getvalue() == ""


def test_a_missing_tqdm_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="progress=True needs tqdm: python -m pip install tqdm"):
        MixNNDataLoader(Points(), mlp(), progress=True)


def test_every_scan_shows_a_bar_and_is_the_same_under_it(monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    shown = on_terminal(monkeypatch, lambda: losses.extend(trained(progress=True)))
    for epoch in range(2):
        assert f"scan, epoch {epoch}" in shown
    assert shown.endswith("\r")  # the bar has been wiped off
    assert losses == trained(progress=False)


def test_every_scan_is_a_line_and_is_the_same_with_it(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="mixnn_loader"):
        losses = trained(progress=True)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("scan")]
    num_batches = NUM_SAMPLES // 8
    assert [line.partition(" in ")[0] for line in lines] == [f"scan, epoch {e}: {num_batches} batches" for e in (0, 1)]
    assert losses == trained(progress=False)
    assert capsys.readouterr() == ("", "")
