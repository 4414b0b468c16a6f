"""Images by path, with a label each."""

from collections.abc import Callable, Sequence
from operator import index
from os import PathLike
from pathlib import Path
from typing import Any

from torchvision.datasets import VisionDataset
from torchvision.datasets.folder import default_loader

StrPath = str | PathLike[str]
Transform = Callable[[Any], Any]


class ImageList(VisionDataset):  # type: ignore[misc]  # torchvision comes without types
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
        super().__init__(transform=transform)
        self.paths = [str(path) for path in paths]
        self.targets = [index(label) for label in labels]
        self.loader = loader

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: int) -> tuple[Any, int]:
        image = self.loader(self.paths[item])
        if self.transform is not None:
            image = self.transform(image)
        return image, self.targets[item]

    def with_transform(self, transform: Transform | None) -> "ImageList":
        """Return the same images with another transform."""
        return ImageList(self.paths, self.targets, transform=transform, loader=self.loader)


def require(path: Path, layout: str) -> None:
    """Raise a `FileNotFoundError` that names the expected layout unless there is such a file or folder."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; {layout}")
