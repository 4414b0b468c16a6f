"""The quickstart runs, in short, and says what it promises."""

import io
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "examples" / "quickstart.py"
SHORT = ("--epochs", "5")


Capture = pytest.CaptureFixture[str]


def call(*arguments: str | Path) -> None:
    """Run the script in this process, which has imported everything already; other tests see no trace of it."""
    num_threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        finally:
            torch.set_num_threads(num_threads)


def table(output: str) -> dict[str, list[str]]:
    """Row name -> its two cells."""
    rows = re.findall(r"^(\S.*?)\s{2,}(-|[\d.]+(?: ± [\d.]+)?)\s{2,}(-|[\d.]+(?: ± [\d.]+)?)$", output, re.MULTILINE)
    return {name: cells for name, *cells in rows}


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a short run over two seeds prints."""
    picture = tmp_path_factory.mktemp("quickstart") / "two_seeds.png"
    with redirect_stdout(io.StringIO()) as printed:
        call(*SHORT, "--seeds", "0", "1", "--output", picture)
    return printed.getvalue()


def test_table_has_a_value_for_each_method(short_run: str) -> None:
    rows = table(short_run)
    values = {name: [float(cell.split()[0]) if cell != "-" else None for cell in cells] for name, cells in rows.items()}
    last, best = values["test accuracy, last epoch (%)"], values["test accuracy, best epoch (%) *"]
    for last_accuracy, best_accuracy in zip(last, best, strict=True):
        assert last_accuracy is not None
        assert best_accuracy is not None
        assert 10 < last_accuracy <= best_accuracy <= 100
    given = values["training labels correct, as given (%)"]
    assert given[0] == given[1] == pytest.approx(60, abs=5)
    for name in ("training labels correct, after correction (%)", "wrong labels found, AUROC (%)"):
        cross_entropy, mixnn = values[name]
        assert cross_entropy is None
        assert mixnn is not None
        assert 50 < mixnn <= 100
    assert all("±" in cell for cell in rows["wall time (s)"])


def test_says_what_the_best_epoch_is_worth(short_run: str) -> None:
    assert "orientation only" in short_run


def test_names_five_suspicious_labels(short_run: str) -> None:
    suspects = re.findall(r"^ +(\d+) +(\d) +(\d) +(\d)$", short_run, re.MULTILINE)
    assert len({index for index, *_ in suspects}) == 5


def test_the_command_prints_a_table_and_saves_one_picture_in_the_current_folder(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), *SHORT]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == "", "free where it is no terminal"
    assert "training labels correct, after correction (%)" in table(finished.stdout)
    files = list(tmp_path.iterdir())
    assert [file.name for file in files] == ["quickstart.png"]
    assert files[0].read_bytes().startswith(b"\x89PNG")


def test_runs_on_clean_labels_too(tmp_path: Path, capsys: Capture) -> None:
    picture = tmp_path / "clean.png"
    call(*SHORT, "--noise-rate", "0", "--output", picture)
    assert "wrong labels found, AUROC (%)" not in capsys.readouterr().out
    assert picture.exists()


def test_takes_the_paper_s_recipe(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("nmslib", reason="the paper's search is of nmslib")
    call(*SHORT, "--recipe", "paper", "--output", tmp_path / "paper.png")
    assert "training labels correct, after correction (%)" in table(capsys.readouterr().out)


def test_help_names_every_flag(capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="0"):
        call("--help")
    shown = capsys.readouterr().out
    for flag in ("--noise-rate", "--epochs", "--recipe", "--seeds", "--output"):
        assert flag in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--noise-rate", "1.5"), "--noise-rate must lie in [0, 1), got 1.5"),
        (("--epochs", "1"), "--epochs must be at least 2, one of warm-up and one after it, got 1"),
    ],
)
def test_refuses_flags_out_of_range(arguments: tuple[str, str], message: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        call(*arguments)
    assert message in capsys.readouterr().err
