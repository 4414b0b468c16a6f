"""The benchmarks' README names what is there."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import benchmarks
from benchmarks.figures import FIGURES
from benchmarks.harness.published import published_tables
from benchmarks.harness.settings import RunSettings
from benchmarks.harness.training import train_and_measure

FOLDER = Path(benchmarks.__file__).parent
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_experiment_has_its_row() -> None:
    rows = "".join(line for line in README.splitlines() if line.startswith("|"))
    for path in (FOLDER / "grids" / "small").iterdir():
        assert f"`{path.name}`" in rows
    for name, figure in FIGURES.items():
        assert f"| `{name}` | `{figure.file}.png` |" in README
    for name in published_tables():
        assert f"--paper {name}" in README


def test_files_that_it_names_exist() -> None:
    names = re.findall(r"`((?:harness|methods|grids|results)/[\w./-]+)`|`(\w+\.(?:py|toml))`", README)
    assert len(names) > 10
    for inner, plain in names:
        assert (FOLDER / (inner or plain)).exists() or (FOLDER / "grids" / "small" / plain).exists(), inner or plain
    for name in re.findall(r"(benchmarks/grids/[\w./]+)", README):
        assert (FOLDER.parent / name).exists(), name


def test_what_a_line_holds_is_described() -> None:
    line = train_and_measure(RunSettings("mixnn", "digits", epochs=3, num_train=96, watch_training=True))
    described = {word for span in re.findall(r"`([^`\n]*)`", README) for word in span.split(".")}
    assert set(names_in(line)) <= described


def names_in(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name in ("recipe", "schedule", "machine"):
                yield name
                continue
            yield name
            yield from names_in(inner)
    elif isinstance(value, list):
        yield from names_in(value[0])
