"""Food-101N: dishes that a web search found, of which some were verified by hand."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from mixnn_loader._utils.checks import check_choice
from mixnn_loader.datasets.image_list import ImageList, StrPath, Transform, require

FOOD101N_CLASSES = 101

Food101NSplit = Literal["train", "verified_train", "verified_val"]

_LISTS = {"train": "imagelist.tsv", "verified_train": "verified_train.tsv", "verified_val": "verified_val.tsv"}

_LAYOUT = (
    "expected Food-101N_release: <root>/meta/classes.txt, <root>/meta/imagelist.tsv, <root>/meta/verified_train.tsv, "
    "<root>/meta/verified_val.tsv, each with a header line, and <root>/images/<class>/*.jpg"
)


def food101n(root: StrPath, split: Food101NSplit, transform: Transform | None = None) -> ImageList:
    """Food-101N (Lee, He, Zhang and Yang, "CleanNet", CVPR 2018; https://kuanghuei.github.io/Food-101N).

    About 20 % of the labels are wrong. Its test images are those of `food101`, whose class ids are the same.

    Args:
        root: folder that holds ``meta/`` and ``images/``.
        split: ``"train"``, all 310,009 images with the labels that they were found by; or those of them whose label was
            verified as right: from the part that the authors trained on, ``"verified_train"``, and from the part that
            they validated on, ``"verified_val"``.
        transform: applied to each PIL image.

    Returns:
        The images in the order of their list, and labels in 0..100: the ranks of the classes in alphabetical order.

    Raises:
        FileNotFoundError: a list, or the first image that it names, is missing.
        ValueError: the split is unknown, or a line of a list is malformed.
    """
    check_choice("split", split, tuple(_LISTS))
    root = Path(root).expanduser()
    classes = {name: label for label, name in enumerate(sorted(_lines(root / "meta" / "classes.txt")))}
    if split == "train":
        keys = _lines(root / "meta" / _LISTS["train"])
    else:
        keys = [key for key, is_right in _verified(root / "meta" / _LISTS[split]).items() if is_right]
    if unknown := [key for key in keys if key.partition("/")[0] not in classes]:
        raise ValueError(
            f"{root / 'meta' / _LISTS[split]}: expected <class>/<image> with a class of classes.txt, got {unknown[0]!r}"
        )
    if not keys:
        raise ValueError(f"{root / 'meta' / _LISTS[split]} names no image")
    # One look catches a wrong root now, rather than in a worker; looking at every file would take minutes.
    require(root / "images" / keys[0], _LAYOUT)
    paths = [root / "images" / key for key in keys]
    return ImageList(paths, [classes[key.partition("/")[0]] for key in keys], transform=transform)


def food101n_verification(root: StrPath) -> Tensor:
    """Tell what is known of the labels of ``food101n(root, "train")``.

    Args:
        root: see `food101n`.

    Returns:
        (N,) int64: 1 where the label was verified as right, 0 where as wrong, -1 where nobody has looked.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: a line of a list is malformed.
    """
    meta = Path(root).expanduser() / "meta"
    verified = _verified(meta / _LISTS["verified_train"]) | _verified(meta / _LISTS["verified_val"])
    return torch.tensor(
        [int(verified.get(key, -1)) for key in _lines(meta / _LISTS["train"])], dtype=torch.int64, device="cpu"
    )


def _lines(file: Path) -> list[str]:
    """Read the lines after the header."""
    require(file, _LAYOUT)
    return [line.strip() for line in file.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]


def _verified(file: Path) -> dict[str, bool]:
    """Read which labels are right, by image."""
    verified = {}
    for line in _lines(file):
        key, _, answer = line.partition("\t")
        if answer not in ("0", "1"):
            raise ValueError(f'{file}: expected "<class>/<image>", a tab, and 0 or 1, got {line!r}')
        verified[key] = answer == "1"
    return verified
