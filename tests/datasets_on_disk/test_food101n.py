"""Food-101N, on a small copy of its files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from image_files import red_of, reds_and_labels, save_image

from mixnn_loader.datasets import food101n, food101n_verification

KEYS = ["waffles/a.png", "baklava/b.png", "apple_pie/c.png", "waffles/d.png"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four images of three classes, of which three were verified, one of them as wrong."""
    for red, key in enumerate(KEYS, start=1):
        save_image(tmp_path / "images" / key, red=red)
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/classes.txt").write_text("class_name\napple_pie\nwaffles\nbaklava\n")
    (tmp_path / "meta/imagelist.tsv").write_text("\n".join(["class_name/key", *KEYS, ""]))
    header = "class_name/key\tverification_label"
    (tmp_path / "meta/verified_train.tsv").write_text(f"{header}\nbaklava/b.png\t1\nwaffles/a.png\t0\n")
    (tmp_path / "meta/verified_val.tsv").write_text(f"{header}\nwaffles/d.png\t1\n")
    return tmp_path


def test_all_images_with_the_class_that_they_were_found_by(root: Path) -> None:
    assert reds_and_labels(food101n(root, "train")) == [(1, 2), (2, 1), (3, 0), (4, 2)], "ids are alphabetical"
    assert food101n(root, "train", red_of)[3] == (4, 2)


def test_verified_splits_hold_those_that_are_right(root: Path) -> None:
    assert reds_and_labels(food101n(root, "verified_train")) == [(2, 1)]
    assert reds_and_labels(food101n(str(root), "verified_val")) == [(4, 2)]


def test_verification_goes_with_the_training_images(root: Path) -> None:
    known = food101n_verification(root)
    assert known.dtype == torch.int64
    assert known.tolist() == [0, 1, -1, 1]


def test_an_image_of_an_unknown_class(root: Path) -> None:
    with (root / "meta/imagelist.tsv").open("a") as file:
        file.write("sushi/e.png\n")
    with pytest.raises(ValueError, match=r"imagelist\.tsv: .* class of classes\.txt, got 'sushi/e\.png'"):
        food101n(root, "train")


@pytest.mark.parametrize("line", ["waffles/d.png", "waffles/d.png\t2", "waffles/d.png 1"])
def test_a_verification_that_is_none(root: Path, line: str) -> None:
    with (root / "meta/verified_val.tsv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"verified_val\.tsv: expected .* a tab, and 0 or 1, got 'waffles/d\.png"):
        food101n(root, "verified_val")


def test_no_image(root: Path) -> None:
    (root / "meta/verified_val.tsv").write_text("class_name/key\tverification_label\nwaffles/d.png\t0\n")
    with pytest.raises(ValueError, match=r"verified_val\.tsv names no image"):
        food101n(root, "verified_val")


@pytest.mark.parametrize("missing", ["meta/classes.txt", "meta/imagelist.tsv", "images/waffles/a.png"])
def test_a_missing_file_names_the_layout(root: Path, missing: str) -> None:
    (root / missing).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{Path(missing).name} does not exist; expected Food-101N_release"):
        food101n(root, "train")


def test_unknown_split(root: Path) -> None:
    split: Any = "test"
    with pytest.raises(ValueError, match="split must be one of 'train', 'verified_train', 'verified_val', got 'test'"):
        food101n(root, split)
