"""What the documents say holds: code runs, arguments are the signature's, links and messages lead somewhere."""

import inspect
import re
from pathlib import Path

import pytest

import mixnn_loader
from mixnn_loader import MixNNDataLoader

ROOT = Path(__file__).parent.parent
PACKAGE = Path(mixnn_loader.__file__).parent
FRONT, DETAIL = ROOT / "README.md", ROOT / "mixnn_loader" / "README.md"
DOCUMENTS = [
    FRONT,
    DETAIL,
    ROOT / "examples" / "README.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / ".github" / "CONTRIBUTING.md",
]
of_each = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def test_the_python_blocks_run_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Fragments, which are marked as "py", are parts of what stands in examples/.
    blocks = re.findall(r"```python\n(.*?)```", text_of(FRONT) + text_of(DETAIL), flags=re.DOTALL)
    assert len(blocks) >= 5
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    loader = namespace["loader"]
    assert isinstance(loader, MixNNDataLoader)
    assert loader.history[-1]["phase"] == "correction"


def test_the_table_lists_every_argument_with_its_default() -> None:
    rows = re.findall(r"^\| `([*\w]+)` \| (?:`(.*?)`)? ?\| ", text_of(DETAIL), flags=re.MULTILINE)
    documented = {name.lstrip("*"): default for name, default in rows}
    parameters = list(inspect.signature(MixNNDataLoader).parameters.values())
    assert list(documented) == [parameter.name for parameter in parameters]
    for parameter in parameters:
        default = "" if parameter.default is inspect.Parameter.empty else repr(parameter.default).replace("'", '"')
        assert documented[parameter.name] == default


@of_each
def test_no_placeholder_is_left(document: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`]*`", "", text_of(document), flags=re.DOTALL)
    assert re.findall(r"\b[A-Z]{2,}_[A-Z_]+\b|\bTODO\b", prose) == []


@of_each
def test_files_that_are_named_exist(document: Path) -> None:
    for name in re.findall(r"`((?:examples|benchmarks)/[\w./]+)`", text_of(document)):
        assert (ROOT / name).exists(), name


@of_each
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", text_of(document))
    for path, anchor in links:
        if path.startswith("http"):
            continue
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), path
        if anchor:
            assert anchor[1:] in anchors_of(target), path + anchor


def anchors_of(document: Path) -> set[str]:
    """The anchors that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text_of(document), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_messages_that_are_explained_are_given() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    given = re.sub(r'"\s*\n\s*f?"', "", sources)  # adjacent strings are one
    explained = re.findall(r'^\| "(.*?)"', text_of(DETAIL), flags=re.MULTILINE)
    assert len(explained) > 10
    assert [message for message in explained if message not in given] == []


def test_every_source_file_that_is_named_exists() -> None:
    named = re.findall(r"`((?:[\w]+/)+[\w]+\.py)`", text_of(DETAIL))
    assert len(named) > 10
    assert [name for name in named if not (PACKAGE / name).exists()] == []


def test_the_front_page_is_short() -> None:
    assert len(text_of(FRONT).splitlines()) <= 250


def test_every_example_is_in_the_table() -> None:
    rows = re.findall(r"^\| `(\w+\.(?:py|ipynb))` \|", text_of(ROOT / "examples" / "README.md"), flags=re.MULTILINE)
    scripts = {path.name for path in (ROOT / "examples").glob("[!_]*.*") if path.suffix in (".py", ".ipynb")}
    assert set(rows) == scripts
