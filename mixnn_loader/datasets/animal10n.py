"""ANIMAL-10N: animals that are easily confused, labeled by hand in a hurry."""

from pathlib import Path

from torchvision.datasets.folder import is_image_file

from mixnn_loader.datasets.image_list import ImageList, StrPath, Transform, require
from mixnn_loader.datasets.official_files import Split, check_split

ANIMAL10N_CLASSES = 10

_FOLDERS = {"train": "training", "test": "testing"}

_LAYOUT = "expected <root>/training/ and <root>/testing/ with image files named by label and number, such as 0_1234.jpg"


def animal10n(root: StrPath, split: Split, transform: Transform | None = None) -> ImageList:
    """ANIMAL-10N (Song, Kim and Lee, "SELFIE: refurbishing unclean samples for robust deep learning", ICML 2019).

    Images of 64 x 64 pixels, see https://dm.kaist.ac.kr/datasets/animal-10n (the raw image version). About 8 % of the
    training labels are wrong. To keep the images in memory: `mixnn_loader.datasets.in_memory.read_images`.

    Args:
        root: folder that holds ``training/`` and ``testing/``.
        split: ``"train"`` (50,000 images, noisy labels) or ``"test"`` (5,000, right labels).
        transform: applied to each PIL image.

    Returns:
        The images in the order of their file names, and labels in 0..9.

    Raises:
        FileNotFoundError: the folder is missing, or holds no image.
        ValueError: the split is unknown, or a file's name does not start with a label and ``_``.
    """
    check_split(split)
    folder = Path(root).expanduser() / _FOLDERS[split]
    require(folder, _LAYOUT)
    # What a file system lists comes in any order.
    paths = sorted(path for path in folder.iterdir() if is_image_file(path.name))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no image; {_LAYOUT}")
    return ImageList(paths, [_label_of(path) for path in paths], transform=transform)


def _label_of(path: Path) -> int:
    label, separator, _ = path.name.partition("_")
    if not separator or not label.isdecimal() or int(label) >= ANIMAL10N_CLASSES:
        raise ValueError(f"{path} does not start with a label below {ANIMAL10N_CLASSES}; {_LAYOUT}")
    return int(label)
