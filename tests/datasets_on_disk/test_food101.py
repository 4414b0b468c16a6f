"""Food-101, on a small copy of its files."""

import json
from pathlib import Path
from typing import Any

import pytest
from image_files import red_of, reds_and_labels, save_image
from torchvision.datasets import Food101

from mixnn_loader.datasets import food101


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """JPEG files in three classes, of gray that survives compression."""
    keys = {"waffles": ["waffles/11", "waffles/12"], "apple_pie": ["apple_pie/13"], "baklava": ["baklava/14"]}
    for red, key in enumerate((key for keys_of_class in keys.values() for key in keys_of_class), start=1):
        save_image(tmp_path / "food-101/images" / f"{key}.jpg", red=40 * red, size=(16, 16))
    (tmp_path / "food-101/meta").mkdir()
    (tmp_path / "food-101/meta/test.json").write_text(json.dumps(keys))
    (tmp_path / "food-101/meta/train.json").write_text(json.dumps({"waffles": ["waffles/12"]}))
    return tmp_path


def test_labels_are_alphabetical_ranks_as_in_torchvision(root: Path) -> None:
    ours = [(round(red / 40), label) for red, label in reds_and_labels(food101(root, "test"))]
    assert ours == [(3, 0), (4, 1), (1, 2), (2, 2)]
    theirs = [(round(red / 40), label) for red, label in reds_and_labels(Food101(root, split="test"))]
    assert sorted(ours) == sorted(theirs)


def test_the_split_and_the_transform(root: Path) -> None:
    train = food101(str(root), "train", lambda image: round(red_of(image) / 40))
    assert [train[0]] == [(2, 0)]
    assert train.targets == [0]


@pytest.mark.parametrize("missing", ["meta/test.json", "images/apple_pie/13.jpg"])
def test_a_missing_file_names_the_layout(root: Path, missing: str) -> None:
    (root / "food-101" / missing).unlink()
    with pytest.raises(FileNotFoundError, match=r"does not exist; expected <root>/food-101/meta/train\.json"):
        food101(root, "test")


def test_no_image_and_no_such_split(root: Path) -> None:
    (root / "food-101/meta/test.json").write_text("{}")
    with pytest.raises(ValueError, match=r"test\.json names no image"):
        food101(root, "test")
    split: Any = "val"
    with pytest.raises(ValueError, match="got 'val'"):
        food101(root, split)
