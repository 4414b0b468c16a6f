"""Runs the examples that compare cross-entropy with MixNN, and reads the table that they print."""

import importlib
import re
import runpy
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "examples"
GIVEN, CORRECTED = "training labels right, as given (%)", "training labels right, after correction (%)"
ROWS = {"test accuracy, last epoch (%)", "test accuracy, best epoch (%) *", GIVEN, CORRECTED, "wall time (s)"}

Flag = str | int | float
Table = dict[str, list[float | None]]
"""Name of a row -> its values for cross-entropy and for MixNN, None where there is none."""


def run_command(name: str, *flags: Flag) -> None:
    """Run an example as one does from a shell, but in this process, which has imported everything already."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.syspath_prepend(FOLDER)
        patch.setattr(sys, "argv", [name, *map(str, flags), "--device", "cpu"])
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


def table_of(output: str) -> Table:
    """Read the values, of several seeds their mean."""
    rows = re.findall(r"^(\S.*?)\s{2,}(-|[\d.]+(?: ± [\d.]+)?)\s{2,}(-|[\d.]+(?: ± [\d.]+)?)$", output, re.MULTILINE)
    return {name: [None if cell == "-" else float(cell.split()[0]) for cell in cells] for name, *cells in rows}


def check_table(table: Table) -> None:
    """Check that every row is there and has what it can have."""
    assert table.keys() == ROWS
    for last, best in zip(
        table["test accuracy, last epoch (%)"], table["test accuracy, best epoch (%) *"], strict=True
    ):
        assert last is not None
        assert best is not None
        assert 0 < last <= best <= 100
    assert table[GIVEN] == [pytest.approx(60, abs=10)] * 2
    assert table[CORRECTED][0] is None, "cross-entropy corrects nothing"
    assert table[CORRECTED][1] is not None


def gain(output: str) -> float:
    """How many more training labels are right after correction, in percent of all."""
    table = table_of(output)
    given, corrected = table[GIVEN][1], table[CORRECTED][1]
    assert given is not None
    assert corrected is not None
    return corrected - given


def changed_calls(name: str, layers: Sequence[str], *flags: Flag) -> dict[str, list[bool]]:
    """Run an example; of each call of a layer in training, say whether the loader has changed what it gives."""
    changed: dict[str, list[bool]] = {layer: [] for layer in layers}
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.syspath_prepend(FOLDER)
        example: Any = importlib.import_module(name)

        class Watched(example.Classifier):  # type: ignore[misc]
            def forward(self, inputs: Any) -> Tensor:
                def compare(calls: list[bool], module: Any, args: Any, output: Tensor) -> None:
                    calls.append(not torch.equal(output, module.forward(*args)))

                with ExitStack() as hooks:
                    for layer, calls in changed.items():
                        if self.training:  # after the loader's own hook
                            hook = self.get_submodule(layer).register_forward_hook(partial(compare, calls))
                            hooks.enter_context(hook)
                    logits: Tensor = super().forward(inputs)
                return logits

        patch.setattr(example, "Classifier", Watched)
        example.main([*map(str, flags), "--device", "cpu"])
    return changed
