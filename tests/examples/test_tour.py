"""The notebook: every cell runs, one after another, and comes to what it says."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "tour.ipynb"


def cells(kind: str) -> list[Any]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    namespace: dict[str, Any] = {}
    for number, cell in enumerate(cells("code")):
        source = "".join(cell["source"]).replace("epochs = 60", "epochs = 12")
        exec(compile(source, f"cell {number}", "exec"), namespace)
    assert namespace["found"].mean() > 0.8  # of all labels, two fifths
    assert namespace["resumed"].epoch == 12


def test_its_outputs_are_those_of_a_whole_run_without_an_error() -> None:
    outputs = [output for cell in cells("code")[1:] for output in cell["outputs"]]
    assert outputs
    assert {output["output_type"] for output in outputs} <= {"execute_result", "display_data"}
    assert [cell["execution_count"] for cell in cells("code")] == list(range(1, len(cells("code")) + 1))
