"""Map-style datasets of image files: WebVision-mini, its ILSVRC12 test set, and plain image folders."""

from collections.abc import Callable, Iterator, Sequence
from operator import index
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader, find_classes, is_image_file

StrPath = str | PathLike[str]
Transform = Callable[[Any], Any]

WEBVISION_MINI_CLASSES = 50

_WEBVISION_LAYOUT = (
    "expected WebVision 1.0 with resized images: <root>/info/train_filelist_google.txt, "
    "<root>/info/val_filelist.txt, <root>/google/..., <root>/val_images_256/..."
)
_IMAGE_FOLDER_LAYOUT = "expected <root>/train/<class>/*.jpg and <root>/test/<class>/*.jpg"


class ImageList(Dataset[tuple[Any, int]]):
    """Images by path, with a label each; samples are (image, label).

    Args:
        paths: N image files; read when a sample is asked for.
        labels: N class indices, kept in ``targets``.
        transform: applied to each image.
        loader: reads a path; torchvision's default gives an RGB PIL image.

    Raises:
        ValueError: there are not as many labels as paths.
        TypeError: a label is not an integer.
    """

    def __init__(
        self,
        paths: Sequence[StrPath],
        labels: Sequence[int],
        *,
        transform: Transform | None = None,
        loader: Callable[[str], Any] = default_loader,
    ) -> None:
        if len(paths) != len(labels):
            raise ValueError(f"paths and labels must have the same length, got {len(paths)} and {len(labels)}")
        self.paths = [str(path) for path in paths]
        self.targets = [index(label) for label in labels]
        self.transform = transform
        self.loader = loader

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: int) -> tuple[Any, int]:
        image = self.loader(self.paths[item])
        if self.transform is not None:
            image = self.transform(image)
        return image, self.targets[item]


def webvision_mini(
    root: StrPath,
    split: Literal["train", "val"],
    transform: Transform | None = None,
    *,
    num_classes: int = WEBVISION_MINI_CLASSES,
) -> ImageList:
    """WebVision-mini: the Google images of the first 50 classes of WebVision 1.0 (Li et al. 2017).

    Args:
        root: folder that holds ``info/``, ``google/`` and ``val_images_256/``.
        split: ``"train"`` (noisy labels) or ``"val"`` (verified labels).
        transform: applied to each PIL image.
        num_classes: keep labels below this; 50 is the benchmark.

    Raises:
        FileNotFoundError: the list, or the first image it names, is missing.
        ValueError: the split is unknown, a line is not ``path label``, or no label is below ``num_classes``.
    """
    root = Path(root).expanduser()
    if split == "train":
        filelist, images = root / "info" / "train_filelist_google.txt", root
    elif split == "val":
        filelist, images = root / "info" / "val_filelist.txt", root / "val_images_256"
    else:
        raise ValueError(f'split must be "train" or "val", got {split!r}')

    samples = [(images / path, label) for path, label in _read_filelist(filelist) if label < num_classes]
    if not samples:
        raise ValueError(f"{filelist} has no label below num_classes={num_classes}")
    # One look catches a wrong root now, rather than in a worker; looking at every file would take minutes.
    _require(samples[0][0], _WEBVISION_LAYOUT)
    paths, labels = zip(*samples, strict=True)
    return ImageList(paths, labels, transform=transform)


def ilsvrc_val(
    root: StrPath,
    transform: Transform | None = None,
    *,
    synsets: StrPath | None = None,
    num_classes: int = WEBVISION_MINI_CLASSES,
) -> ImageList:
    """ILSVRC12 validation images of the first 50 WebVision classes, in order of class id.

    Args:
        root: folder with one folder of images a class, named by class id (``0`` to ``49``) or by synset
            (``n01440764``). Folders of other classes are ignored.
        transform: applied to each PIL image.
        synsets: for folders named by synset: WebVision's ``info/synsets.txt``, whose lines start with the
            synsets of class 0, 1, and so on.
        num_classes: number of classes; 50 is the benchmark.

    Raises:
        FileNotFoundError: a class has no folder or no image, or the synset list is missing.
        ValueError: ``num_classes`` is below 1, folders are not named by class id and no synset list is given, or that
            list is too short.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be >= 1, got {num_classes}")
    root = Path(root).expanduser()
    layout = f"expected a folder a class, <root>/0 to <root>/{num_classes - 1} or <root>/n01440764 and so on"
    _require(root, layout)
    if (root / "0").is_dir():
        names = [str(label) for label in range(num_classes)]
    elif synsets is None:
        raise ValueError(f"{root} has no folder named 0; for folders named by synset pass synsets=info/synsets.txt")
    else:
        names = _read_synsets(Path(synsets).expanduser(), num_classes)

    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        _require(root / name, layout)
        images = sorted(path for path in (root / name).iterdir() if is_image_file(path.name))
        if not images:
            raise FileNotFoundError(f"{root / name} holds no image; {layout}")
        paths += images
        labels += [label] * len(images)
    return ImageList(paths, labels, transform=transform)


def image_folder(root: StrPath, split: Literal["train", "test"], transform: Transform | None = None) -> ImageFolder:
    """One split of ``<root>/train/<class>/*.jpg``, ``<root>/test/<class>/*.jpg``, as torchvision's `ImageFolder`.

    Args:
        root: folder that holds both splits.
        split: ``"train"`` or ``"test"``.
        transform: applied to each PIL image.

    Raises:
        FileNotFoundError: a split is missing, or a class has no image.
        ValueError: the split is unknown, or the two splits' classes differ: their ids would not agree.
    """
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    root = Path(root).expanduser()
    train, test = (set(_class_names(root / name)) for name in ("train", "test"))
    if train != test:
        raise ValueError(
            f"the splits of {root} must have the same classes; "
            f"only in train: {sorted(train - test)}, only in test: {sorted(test - train)}"
        )
    return ImageFolder(root / split, transform=transform)


def _class_names(directory: Path) -> list[str]:
    _require(directory, _IMAGE_FOLDER_LAYOUT)
    names: list[str] = find_classes(directory)[0]
    return names


def _require(path: Path, layout: str) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; {layout}")


def _read_filelist(filelist: Path) -> Iterator[tuple[str, int]]:
    _require(filelist, _WEBVISION_LAYOUT)
    with filelist.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            fields = line.rsplit(maxsplit=1)
            if len(fields) != 2 or not fields[1].isdecimal():
                raise ValueError(f'{filelist}, line {number}: expected "path label", got {line.rstrip()!r}')
            yield fields[0], int(fields[1])


def _read_synsets(file: Path, num_classes: int) -> list[str]:
    _require(file, "expected WebVision's info/synsets.txt, a line a class: n01440764 tench, Tinca tinca")
    names: list[str] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()[:num_classes], start=1):
        if not line.strip():
            raise ValueError(f'{file}, line {number}: expected "synset names", got an empty line')
        names.append(line.split()[0])
    if len(names) < num_classes:
        raise ValueError(f"{file} must name at least num_classes={num_classes} synsets, got {len(names)}")
    return names
