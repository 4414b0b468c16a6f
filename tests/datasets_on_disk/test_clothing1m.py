"""Clothing1M, on a small copy of its files."""

from pathlib import Path
from typing import Any

import pytest
from image_files import red_of, reds_and_labels, save_image

from mixnn_loader.datasets import ImageList, clothing1m


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four images; the third one has a noisy and a verified label. Paths are with and without ``images/``, as there."""
    for red, name in enumerate(["0/00/a.png", "0/01/b.png", "9/99/c.png", "9/98/d.png"], start=1):
        save_image(tmp_path / "images" / name, red=red)
    (tmp_path / "noisy_label_kv.txt").write_text("images/0/01/b.png 13\nimages/0/00/a.png 4\n\n9/99/c.png 2\n")
    (tmp_path / "clean_label_kv.txt").write_text("images/9/99/c.png 0\nimages/9/98/d.png 1\n")
    (tmp_path / "noisy_train_key_list.txt").write_text("images/0/00/a.png\n0/01/b.png\n")
    (tmp_path / "clean_train_key_list.txt").write_text("images/9/98/d.png\n")
    (tmp_path / "clean_val_key_list.txt").write_text("images/9/99/c.png\nimages/9/98/d.png\n")
    (tmp_path / "clean_test_key_list.txt").write_text("9/99/c.png\n")
    return tmp_path


def test_a_split_is_what_its_key_list_names_in_that_order(root: Path) -> None:
    assert reds_and_labels(clothing1m(root, "noisy_train")) == [(1, 4), (2, 13)]
    assert reds_and_labels(clothing1m(str(root), "clean_train")) == [(4, 1)]
    assert reds_and_labels(clothing1m(root, "clean_val")) == [(3, 0), (4, 1)]
    assert isinstance(clothing1m(root, "clean_val"), ImageList)


def test_labels_of_the_test_set_are_the_verified_ones(root: Path) -> None:
    assert clothing1m(root, "clean_test", red_of)[0] == (3, 0)


def test_unknown_split(root: Path) -> None:
    split: Any = "train"
    with pytest.raises(ValueError, match=r"split must be one of 'noisy_train', 'clean_train'.* got 'train'"):
        clothing1m(root, split)


@pytest.mark.parametrize("line", ["images/0/00/a.png", "images/0/00/a.png 14", "images/0/00/a.png -1", "a b 1"])
def test_a_malformed_line_is_named(root: Path, line: str) -> None:
    with (root / "noisy_label_kv.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=rf"noisy_label_kv\.txt, line 5: .*below 14, got '{line}'"):
        clothing1m(root, "noisy_train")


def test_an_image_without_a_label(root: Path) -> None:
    (root / "clean_val_key_list.txt").write_text("images/9/99/c.png\nimages/0/00/a.png\nimages/0/01/b.png\n")
    with pytest.raises(ValueError, match=r"clean_label_kv\.txt has no label for 2 images .* such as 0/00/a\.png"):
        clothing1m(root, "clean_val")


def test_an_empty_key_list(root: Path) -> None:
    (root / "clean_val_key_list.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"clean_val_key_list\.txt names no image"):
        clothing1m(root, "clean_val")


@pytest.mark.parametrize("missing", ["noisy_label_kv.txt", "noisy_train_key_list.txt", "images/0/00/a.png"])
def test_a_missing_file_names_the_layout(root: Path, missing: str) -> None:
    (root / missing).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"{Path(missing).name} does not exist; expected <root>/\{{noisy_train"
    ):
        clothing1m(root, "noisy_train")
