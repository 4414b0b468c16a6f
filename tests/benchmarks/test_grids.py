"""The grids that come with the benchmarks: they can be run, and are of the runs that tables and figures need."""

from pathlib import Path

import pytest

import benchmarks
from benchmarks.harness.flags import build_parser
from benchmarks.harness.grid import read_grid
from benchmarks.harness.lines import column_of, row_of
from benchmarks.harness.published import published_tables
from benchmarks.harness.settings import RunSettings
from benchmarks.methods import all_methods
from benchmarks.run import check, settings_of

GRIDS = Path(benchmarks.__file__).parent / "grids"
FILES = sorted(GRIDS.rglob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(GRIDS)))
def test_every_run_of_a_grid_can_be_made(path: Path, tmp_path: Path) -> None:
    runs = settings_of(build_parser().parse_args(["--output", "results.jsonl", "--grid", str(path)]))
    for settings in runs:
        check(settings, tmp_path)
    assert len({settings.key for settings in runs}) == len(runs)
    seeds = {settings.seed for settings in runs}
    assert seeds == {0, 1, 2} or (path.parent.name == "measured" and seeds == {0})
    for words in ("python -m benchmarks.run --grid", f"benchmarks/grids/{path.relative_to(GRIDS)}", "--output"):
        assert words in path.read_text(encoding="utf-8"), "a grid says how it is run"


def test_small_and_full_have_the_same_grids() -> None:
    names = {path.name for path in (GRIDS / "small").iterdir()}
    assert names == {path.name for path in (GRIDS / "full").iterdir()}
    assert names >= {f"table{number}.toml" for number in range(1, 6)}


@pytest.mark.parametrize(("table", "grid"), [("I", "table1"), ("IV", "table4"), ("V", "table5")])
def test_the_full_grids_have_the_runs_of_the_papers_cells(table: str, grid: str) -> None:
    runs = settings_of(
        build_parser().parse_args(["--output", "results.jsonl", "--grid", str(GRIDS / "full" / f"{grid}.toml")])
    )
    ours = {(run.dataset.removeprefix("paper-"), row_of(run.as_dict()), column_of(run.as_dict())) for run in runs}
    for row in published_tables()[table].rows:
        name = row_of({"method": row.method, "options": row.options})
        assert {(row.dataset, name, column) for column in row.values} <= ours


@pytest.mark.parametrize("size", ["small", "full"])
def test_table_5_and_the_full_method_of_table_4_are_not_run_twice(size: str) -> None:
    def keys(name: str) -> set[str]:
        return {
            run.key for run in read_grid(GRIDS / size / f"{name}.toml") if run.method == "mixnn" and not run.options
        }

    def of_all(name: str) -> set[str]:
        args = build_parser().parse_args(["--output", "r", "--grid", str(GRIDS / size / f"{name}.toml")])
        return {run.key for run in settings_of(args)}

    assert keys("table5")
    assert keys("table4")
    assert keys("table4") | keys("table5") <= of_all("table1")


@pytest.mark.parametrize("size", ["small", "full"])
def test_figure_7c_has_k_of_0_to_6_on_three_curves(size: str) -> None:
    def of(runs: list[RunSettings], *, clean: bool, uniform: bool) -> set[int]:
        chosen = [run for run in runs if (run.rate == 0) is clean and ("weighting" in run.options) is uniform]
        return {run.options["num_neighbors"] for run in chosen}

    runs = read_grid(GRIDS / size / "neighbors.toml")
    assert of(runs, clean=False, uniform=False) == set(range(7))
    assert of(runs, clean=False, uniform=True) | {0} == set(range(7))
    assert of(runs, clean=True, uniform=True) | of(runs, clean=True, uniform=False) == set(range(7))


def test_table_1_is_of_every_method() -> None:
    for size in ("small", "full"):
        args = build_parser().parse_args(["--output", "r", "--grid", str(GRIDS / size / "table1.toml")])
        assert {run.method for run in settings_of(args)} == set(all_methods())
