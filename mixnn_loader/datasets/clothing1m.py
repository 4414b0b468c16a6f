"""Clothing1M: a million photographs of clothes from online shops, with labels made from the text beside them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from mixnn_loader._utils.checks import check_choice
from mixnn_loader.datasets.image_list import ImageList, StrPath, Transform, require

CLOTHING1M_CLASSES = 14

Clothing1MSplit = Literal["noisy_train", "clean_train", "clean_val", "clean_test"]

_SPLITS = ("noisy_train", "clean_train", "clean_val", "clean_test")

_LAYOUT = (
    "expected <root>/{noisy_train,clean_train,clean_val,clean_test}_key_list.txt, <root>/noisy_label_kv.txt, "
    "<root>/clean_label_kv.txt and <root>/images/..."
)


def clothing1m(root: StrPath, split: Clothing1MSplit, transform: Transform | None = None) -> ImageList:
    """Clothing1M (Xiao, Xia, Yang, Huang and Wang, "Learning from massive noisy labeled data", CVPR 2015).

    The authors send the files on request, see https://github.com/Cysu/noisy_label. About 38 % of the noisy labels are
    wrong.

    Args:
        root: folder that holds the lists, and ``images/``.
        split: ``"noisy_train"`` (1,000,000 images, noisy labels), or one with verified labels: ``"clean_train"``
            (47,570), ``"clean_val"`` (14,313) or ``"clean_test"`` (10,526).
        transform: applied to each PIL image.

    Returns:
        The images in the order of their key list, and labels in 0..13.

    Raises:
        FileNotFoundError: a list, or the first image that it names, is missing.
        ValueError: the split is unknown, a line of a list is malformed, or an image has no label.
    """
    check_choice("split", split, _SPLITS)
    root = Path(root).expanduser()
    key_list = root / f"{split}_key_list.txt"
    label_list = root / ("noisy_label_kv.txt" if split == "noisy_train" else "clean_label_kv.txt")
    labels = dict(_read_labels(label_list))
    require(key_list, _LAYOUT)
    keys = [_within_images(line.strip()) for line in key_list.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not keys:
        raise ValueError(f"{key_list} names no image")
    if unknown := [key for key in keys if key not in labels]:
        raise ValueError(f"{label_list} has no label for {len(unknown)} images of {key_list}, such as {unknown[0]}")
    # One look catches a wrong root now, rather than in a worker; looking at every file would take minutes.
    require(root / "images" / keys[0], _LAYOUT)
    return ImageList([root / "images" / key for key in keys], [labels[key] for key in keys], transform=transform)


def _within_images(path: str) -> str:
    """Return a path below ``images/``; the lists have it with and without that."""
    return path.removeprefix("images/")


def _read_labels(file: Path) -> Iterator[tuple[str, int]]:
    require(file, _LAYOUT)
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            fields = line.split()
            if len(fields) != 2 or not fields[1].isdecimal() or int(fields[1]) >= CLOTHING1M_CLASSES:
                raise ValueError(
                    f'{file}, line {number}: expected "path label" with a label below {CLOTHING1M_CLASSES}, '
                    f"got {line.rstrip()!r}"
                )
            yield _within_images(fields[0]), int(fields[1])
