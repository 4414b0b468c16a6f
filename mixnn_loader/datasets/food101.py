"""Food-101: the test images that go with Food-101N."""

import json
from pathlib import Path

from mixnn_loader.datasets.image_list import ImageList, StrPath, Transform, require
from mixnn_loader.datasets.official_files import Split, check_split

_LAYOUT = (
    "expected <root>/food-101/meta/train.json and test.json, and <root>/food-101/images/<class>/*.jpg, as torchvision "
    "unpacks food-101.tar.gz"
)


def food101(root: StrPath, split: Split, transform: Transform | None = None) -> ImageList:
    """Food-101 (Bossard, Guillaumin and Van Gool, ECCV 2014), as `torchvision.datasets.Food101`.

    Source: https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101.

    Args:
        root: folder that holds ``food-101/``.
        split: ``"train"`` (75,750 images, some labels wrong) or ``"test"`` (25,250, verified).
        transform: applied to each PIL image.

    Returns:
        The images class after class, and labels in 0..100: the ranks of the classes in alphabetical order.

    Raises:
        FileNotFoundError: the list, or the first image that it names, is missing.
        ValueError: the split is unknown, or the list names no image.
    """
    check_split(split)
    root = Path(root).expanduser()
    listed = root / "food-101" / "meta" / f"{split}.json"
    require(listed, _LAYOUT)
    keys_of: dict[str, list[str]] = json.loads(listed.read_text(encoding="utf-8"))
    classes = sorted(keys_of)
    paths = [root / "food-101" / "images" / f"{key}.jpg" for name in classes for key in keys_of[name]]
    if not paths:
        raise ValueError(f"{listed} names no image")
    require(paths[0], _LAYOUT)
    labels = [label for label, name in enumerate(classes) for _ in keys_of[name]]
    return ImageList(paths, labels, transform=transform)
