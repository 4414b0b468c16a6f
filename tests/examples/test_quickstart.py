"""The quickstart runs, in short, and says what it promises."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "examples" / "quickstart.py"
SHORT = ("--epochs", "4", "--warmup-epochs", "2", "--correction-epoch", "3")


Capture = pytest.CaptureFixture[str]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run the script in this process, which has imported everything already; other tests see no trace of it."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    num_threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]):
            runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        torch.set_num_threads(num_threads)


def table(output: str) -> dict[str, list[str]]:
    """Row name -> its two cells."""
    rows = re.findall(r"^(\S.*?)\s{2,}(-|[\d.]+(?: ± [\d.]+)?)\s{2,}(-|[\d.]+(?: ± [\d.]+)?)$", output, re.MULTILINE)
    return {name: cells for name, *cells in rows}


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    """Standard output, standard error and folder of a short run over two seeds."""
    folder = tmp_path_factory.mktemp("quickstart")
    command = [sys.executable, str(SCRIPT), *SHORT, "--seeds", "0", "1"]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout, finished.stderr, folder


def test_table_has_a_value_for_each_method(short_run: tuple[str, str, Path]) -> None:
    rows = table(short_run[0])
    values = {name: [float(cell.split()[0]) if cell != "-" else None for cell in cells] for name, cells in rows.items()}
    last, best = values["test accuracy, last epoch (%)"], values["test accuracy, best epoch (%) *"]
    for last_accuracy, best_accuracy in zip(last, best, strict=True):
        assert last_accuracy is not None
        assert best_accuracy is not None
        assert 10 < last_accuracy <= best_accuracy <= 100
    given = values["training labels correct, as given (%)"]
    assert given[0] == given[1] == pytest.approx(60, abs=5)
    for name in ("training labels correct, after correction (%)", "AUROC of P(clean), first scan (%)"):
        cross_entropy, mixnn = values[name]
        assert cross_entropy is None
        assert mixnn is not None
        assert 50 < mixnn <= 100
    assert all("±" in cell for cell in rows["wall time (s)"])


def test_says_what_the_best_epoch_is_worth(short_run: tuple[str, str, Path]) -> None:
    assert "orientation only" in short_run[0]


def test_names_five_suspicious_labels(short_run: tuple[str, str, Path]) -> None:
    suspects = re.findall(r"^ +(\d+) +(\d) +(\d) +(\d)$", short_run[0], re.MULTILINE)
    assert len({index for index, *_ in suspects}) == 5


def test_saves_one_picture_in_the_current_folder(short_run: tuple[str, str, Path]) -> None:
    files = list(short_run[2].iterdir())
    assert [file.name for file in files] == ["quickstart.png"]
    assert files[0].read_bytes().startswith(b"\x89PNG")


def test_keeps_standard_error_free_where_it_is_no_terminal(short_run: tuple[str, str, Path]) -> None:
    assert short_run[1] == ""


def test_runs_on_clean_labels_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    picture = tmp_path / "clean.png"
    call(monkeypatch, *SHORT, "--noise-rate", "0", "--output", str(picture))
    assert table(capsys.readouterr().out)["AUROC of P(clean), first scan (%)"] == ["-", "-"]
    assert picture.exists()


def test_help_names_every_flag(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="0"):
        call(monkeypatch, "--help")
    shown = capsys.readouterr().out
    for flag in ("--noise-rate", "--epochs", "--warmup-epochs", "--correction-epoch", "--seeds", "--output"):
        assert flag in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--noise-rate", "1.5"), "--noise-rate must lie in [0, 1), got 1.5"),
        (("--epochs", "10"), "--epochs must exceed --warmup-epochs (10), got 10"),
    ],
)
def test_refuses_flags_out_of_range(
    arguments: tuple[str, str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, *arguments)
    assert message in capsys.readouterr().err
