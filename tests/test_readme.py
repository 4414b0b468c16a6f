"""The README's code runs, and its table of arguments is the signature's."""

import inspect
import re
from pathlib import Path

import pytest

from mixnn_loader import MixNNDataLoader

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_python_blocks_run_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Fragments, which are marked as "py", are parts of what stands in examples/.
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 3
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    loader = namespace["loader"]
    assert isinstance(loader, MixNNDataLoader)
    assert loader.history[-1]["phase"] == "correction"


def test_the_table_lists_every_argument_with_its_default() -> None:
    rows = re.findall(r"^\| `([*\w]+)` \| (?:`(.*?)`)? ?\| ", README, flags=re.MULTILINE)
    documented = {name.lstrip("*"): default for name, default in rows}
    parameters = list(inspect.signature(MixNNDataLoader).parameters.values())
    assert list(documented) == [parameter.name for parameter in parameters]
    for parameter in parameters:
        default = "" if parameter.default is inspect.Parameter.empty else repr(parameter.default).replace("'", '"')
        assert documented[parameter.name] == default


def test_no_placeholder_is_left() -> None:
    prose = re.sub(r"```.*?```|`[^`]*`", "", README, flags=re.DOTALL)
    assert re.findall(r"\b[A-Z]{2,}_[A-Z_]+\b|\bTODO\b", prose) == []


def test_files_that_the_readme_names_exist() -> None:
    root = Path(__file__).parent.parent
    for name in re.findall(r"`((?:examples|benchmarks)/[\w./]+)`|\]\(([\w./]+)\)", README):
        assert (root / (name[0] or name[1])).exists(), name
