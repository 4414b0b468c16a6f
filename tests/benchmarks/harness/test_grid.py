"""Many runs from one file."""

from pathlib import Path

import pytest

from benchmarks.harness.grid import read_grid


def grid(text: str, folder: Path) -> Path:
    path = folder / "grid.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_lists_are_combined_and_the_first_varies_slowest(tmp_path: Path) -> None:
    runs = read_grid(grid('dataset = "digits"\nseed = [0, 1]\nmethod = ["ce", "mixnn"]\nrate = 0.2', tmp_path))
    assert [(run.seed, run.method, run.rate) for run in runs] == [
        (0, "ce", 0.2),
        (0, "mixnn", 0.2),
        (1, "ce", 0.2),
        (1, "mixnn", 0.2),
    ]


def test_runs_add_to_what_holds_for_all(tmp_path: Path) -> None:
    text = """
        dataset = "digits"
        method = "mixnn"
        [[runs]]
        rate = [0.2, 0.4]
        [[runs]]
        noise = "pair"
        options = [{ momentum = 0.8 }, { correction_epoch = "none", neighbors = "batch" }]
    """
    runs = read_grid(grid(text, tmp_path))
    assert [(run.noise, run.rate, dict(run.options)) for run in runs] == [
        ("symmetric", 0.2, {}),
        ("symmetric", 0.4, {}),
        ("pair", 0.4, {"momentum": 0.8}),
        ("pair", 0.4, {"correction_epoch": None, "neighbors": "batch"}),
    ]


def test_where_both_have_an_entry_the_run_has_its_own(tmp_path: Path) -> None:
    text = 'dataset = "digits"\nmethod = "ce"\nrate = 0.2\n[[runs]]\n[[runs]]\nrate = 0.8'
    assert [run.rate for run in read_grid(grid(text, tmp_path))] == [0.2, 0.8]


def test_a_run_that_comes_twice_is_made_once(tmp_path: Path) -> None:
    text = 'dataset = "digits"\nmethod = "ce"\n[[runs]]\nrate = [0, 0.4]\n[[runs]]\nrate = [0.0, 0.2]'
    assert [run.rate for run in read_grid(grid(text, tmp_path))] == [0, 0.4, 0.2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset = ", "is not TOML"),
        ('dataset = "digits"', "a run has no method"),
        ('method = "ce"\ndataset = "digits"\nrates = 0.4', "a run has no rates; it has method, dataset"),
        ('method = "ce"\ndataset = "digits"\nrate = 1.4', r"rate: must lie in \[0, 1\), got 1.4"),
        ('method = "ce"\ndataset = "digits"\nseed = "a"', "seed: must be an integer, got 'a'"),
        ('method = "ce"\ndataset = "digits"\noptions = "a"', "options: must be a table"),
        ('method = "ce"\ndataset = "digits"\nruns = 3', r"runs must be tables, each headed \[\[runs\]\]"),
        ('method = "ce"\ndataset = "digits"\nseed = []', "has no runs"),
    ],
)
def test_refuses_a_file_that_is_none(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_grid(grid(text, tmp_path))
    assert "grid.toml" in str(caught.value)
