"""Files and class names, as datasets know them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from image_files import save_image
from torch.utils.data import ConcatDataset, Dataset, Subset
from torchvision.datasets import ImageFolder

from mixnn_loader.data.corrected_labels import CorrectedLabels
from mixnn_loader.report.samples import class_names, sample_paths


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
        (
            {"_image_files": [Path("/data/a"), Path("/data/b"), Path("/elsewhere/c")], "root": "/data"},
            ["a", "b", "/elsewhere/c"],
        ),
        ({"imgs": [("a", 0), ("b", 0), ("c", 1)]}, ["a", "b", "c"]),
        ({"samples": [("a", 0), ("b", 0)]}, None),  # of something else: there are three samples
        ({"samples": [(1, 0), (2, 0), (3, 1)]}, None),
        ({"paths": "abc"}, None),
        ({}, None),
        (
            {"root": "/data", "samples": [("/data/..x", 0), ("/database/y", 0), ("/data/z/w", 0)]},
            ["..x", "/database/y", "z/w"],
        ),
    ],
)
def test_lists_of_files(attributes: dict[str, Any], expected: list[str] | None) -> None:
    assert sample_paths(Listed(**attributes)) == expected


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
