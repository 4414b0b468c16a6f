"""Who may import whom: a walk over every import of the package."""

import ast
from collections.abc import Iterator
from pathlib import Path

import mixnn_loader

PACKAGE = Path(mixnn_loader.__file__).parent

LAYERS = [
    {"_utils"},
    {"method", "neighbors", "model", "datasets"},
    {"data", "report"},
    {"checkpoint"},
    {"run"},
    {"loader"},
    {"integrations"},
]
"""Lowest first. A room imports from itself and from lower layers, never from another of its own layer."""

FACADES = {"__init__", "__main__", "command", "functional", "noise", "plots", "recipes"}
"""Public names for what stands in a room, and commands: they import, and nothing in the package imports them."""

LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def room_of(module: str) -> str:
    """Return the folder, or the file, right below the package."""
    return module.split(".")[1] if "." in module else "__init__"


def imports() -> Iterator[tuple[str, str, str]]:
    """Give the file, its room and the room that it imports from, for every import within the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute here"
                modules = [node.module or ""]
                if node.module == "mixnn_loader":
                    modules = [f"mixnn_loader.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            for module in modules:
                if module.split(".")[0] == "mixnn_loader":
                    yield "/".join(parts), parts[-1] if parts[-1] == "__main__" else parts[0], room_of(module)


def test_every_room_has_a_layer() -> None:
    rooms = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.rglob("*.py")}
    assert rooms <= set(LEVEL) | FACADES


def test_nothing_is_imported_upwards_or_sideways() -> None:
    wrong = [
        f"{file} imports from {target}"
        for file, room, target in imports()
        if room not in FACADES and room != target and LEVEL.get(target, len(LAYERS)) >= LEVEL[room]
    ]
    assert wrong == []


def test_the_walk_sees_the_imports() -> None:
    seen = {(room, target) for _, room, target in imports()}
    assert {("loader", "run"), ("run", "method"), ("data", "_utils")} <= seen
