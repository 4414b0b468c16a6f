"""ANIMAL-10N, on a small copy of its folders."""

from pathlib import Path
from typing import Any

import pytest
from image_files import red_of, reds_and_labels, save_image

from mixnn_loader.datasets import animal10n, read_images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for red, name in enumerate(["9_0002.png", "0_0011.png", "0_0002.png", "3_0001.png"], start=1):
        save_image(tmp_path / "training" / name, red=red)
    save_image(tmp_path / "testing" / "5_0001.png", red=5)
    (tmp_path / "training" / "README.txt").write_text("not an image")
    return tmp_path


def test_the_label_is_in_the_file_name_and_the_order_is_that_of_the_names(root: Path) -> None:
    assert reds_and_labels(animal10n(root, "train")) == [(3, 0), (2, 0), (4, 3), (1, 9)]
    assert animal10n(str(root), "test", red_of)[0] == (5, 5)


def test_it_can_be_kept_in_memory(root: Path) -> None:
    dataset = read_images(animal10n(root, "train"))
    assert dataset.inputs[:, 0, 0, 0].tolist() == [3, 2, 4, 1]
    assert dataset.targets.tolist() == [0, 0, 3, 9]


@pytest.mark.parametrize("name", ["cat.png", "cat_1.png", "10_1.png", "-1_1.png", "_1.png"])
def test_a_file_without_a_label(root: Path, name: str) -> None:
    save_image(root / "training" / name, red=0)
    with pytest.raises(ValueError, match=rf"{name} does not start with a label below 10; expected <root>/training/"):
        animal10n(root, "train")


def test_a_missing_or_empty_folder_names_the_layout(root: Path) -> None:
    (root / "testing" / "5_0001.png").unlink()
    with pytest.raises(FileNotFoundError, match="testing holds no image; expected <root>/training/"):
        animal10n(root, "test")
    (root / "testing").rmdir()
    with pytest.raises(FileNotFoundError, match="testing does not exist; expected <root>/training/"):
        animal10n(root, "test")


def test_unknown_split(root: Path) -> None:
    split: Any = "training"
    with pytest.raises(ValueError, match=r"split must be .* got 'training'"):
        animal10n(root, split)
