"""The validation images of ILSVRC12 that WebVision-mini is also tested on."""

from pathlib import Path

from torchvision.datasets.folder import is_image_file

from mixnn_loader.datasets.image_list import ImageList, StrPath, Transform, require
from mixnn_loader.datasets.webvision import WEBVISION_MINI_CLASSES


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
    require(root, layout)
    if (root / "0").is_dir():
        names = [str(label) for label in range(num_classes)]
    elif synsets is None:
        raise ValueError(f"{root} has no folder named 0; for folders named by synset pass synsets=info/synsets.txt")
    else:
        names = _read_synsets(Path(synsets).expanduser(), num_classes)

    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        require(root / name, layout)
        images = sorted(path for path in (root / name).iterdir() if is_image_file(path.name))
        if not images:
            raise FileNotFoundError(f"{root / name} holds no image; {layout}")
        paths += images
        labels += [label] * len(images)
    return ImageList(paths, labels, transform=transform)


def _read_synsets(file: Path, num_classes: int) -> list[str]:
    require(file, "expected WebVision's info/synsets.txt, a line a class: n01440764 tench, Tinca tinca")
    names: list[str] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()[:num_classes], start=1):
        if not line.strip():
            raise ValueError(f'{file}, line {number}: expected "synset names", got an empty line')
        names.append(line.split()[0])
    if len(names) < num_classes:
        raise ValueError(f"{file} must name at least num_classes={num_classes} synsets, got {len(names)}")
    return names
