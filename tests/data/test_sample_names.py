"""Files and class names, as datasets know them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from image_files import save_image
from torch.utils.data import ConcatDataset, Dataset, Subset
from torchvision.datasets import ImageFolder

from mixnn_loader.data.corrected_labels import CorrectedLabels
from mixnn_loader.data.sample_names import class_names, sample_paths


class Listed(Dataset[Any]):
    """Three samples with attributes of one's own."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 3


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    for place, name in enumerate(["cat/a.png", "cat/b.png", "dog/a.png"]):
        save_image(tmp_path / name, place)
    return ImageFolder(tmp_path)


def test_an_image_folder(folder: ImageFolder) -> None:
    assert sample_paths(folder) == ["cat/a.png", "cat/b.png", "dog/a.png"]
    assert class_names(folder) == ["cat", "dog"]


def test_through_wrappers(folder: ImageFolder) -> None:
    subset = Subset(folder, [2, 0])
    assert sample_paths(subset) == ["dog/a.png", "cat/a.png"]
    assert sample_paths(ConcatDataset([subset, folder])) == ["dog/a.png", "cat/a.png", *(sample_paths(folder) or [])]
    assert sample_paths(CorrectedLabels(folder, [1, 1, 1], drop=[0])) == ["cat/b.png", "dog/a.png"]
    wrapper = Listed(dataset=folder)
    assert sample_paths(wrapper) == sample_paths(folder)
    datasets: list[Any] = [subset, ConcatDataset([subset]), CorrectedLabels(folder, [1, 1, 1]), wrapper]
    for dataset in datasets:
        assert class_names(dataset) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"_image_files": [Path("/data/a"), Path("/data/b"), Path("/else/c")], "root": "/data"}, ["a", "b", "/else/c"]),
        ({"imgs": [(Path("a"), 0), (Path("b"), 0), (Path("c"), 1)]}, ["a", "b", "c"]),
        ({"samples": [(Path("a"), 0), (Path("b"), 0)]}, None),  # of something else: there are three samples
        ({"samples": [(1, 0), (2, 0), (3, 1)]}, None),
        ({"samples": [("a text", 0), ("see http://x//y", 1), ("x" * 5000, 0)]}, None),
        ({"samples": [("x" * 5000, 0), ("a", 1), ("\0", 0)]}, None),
        ({"paths": "abc"}, None),
        ({}, None),
        ({"root": "/d", "_images": [Path("/d/..x"), Path("/dat/y"), Path("/d/z/w")]}, ["..x", "/dat/y", "z/w"]),
        # A wrapper with indices of its own is no part of a dataset.
        ({"dataset": [1, 2, 3], "indices": [7]}, None),
    ],
)
def test_lists_of_files(attributes: dict[str, Any], expected: list[str] | None) -> None:
    assert sample_paths(Listed(**attributes)) == expected


def test_texts_are_files_where_they_exist(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert sample_paths(Listed(samples=[("a", 0), ("b", 0), ("c", 0)], root=str(tmp_path))) == ["a", "b", "c"]
    files = [(str(tmp_path / name), 0) for name in "abc"]
    assert sample_paths(Listed(samples=files, root=tmp_path)) == ["a", "b", "c"]


def test_a_hugging_face_dataset() -> None:
    class Columns(Listed):
        def __getitem__(self, item: str) -> list[str]:
            return {"path": ["a", "b", "c"]}[item]

    features = {"label": SimpleNamespace(names=["no", "yes"])}
    dataset = Columns(column_names=["path", "label"], features=features)
    assert sample_paths(dataset) == ["a", "b", "c"]
    assert class_names(dataset) == ["no", "yes"]


def test_names_that_there_are_not() -> None:
    assert class_names(Listed()) is None
    assert class_names(Listed(classes=7)) is None
    assert class_names(Listed(classes=(0, 1))) == ["0", "1"]
