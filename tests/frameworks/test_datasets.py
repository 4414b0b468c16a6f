"""Datasets as other libraries make them, wrapped as they come."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.dataset import ImageDataset
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms import v2
from torchvision.transforms.transforms import Compose, Normalize, RandomCrop, ToTensor

from mixnn_loader import MixNNDataLoader, MixNNLoss

NUM_CLASSES = 2
TRANSFORMS: dict[str, Any] = {
    "v1": Compose([RandomCrop(8), ToTensor(), Normalize(0.5, 0.5)]),
    "v2": v2.Compose(
        [v2.ToImage(), v2.RandomCrop(8), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.5])]
    ),
    "timm, training": create_transform(8, is_training=True, auto_augment="rand-m9-mstd0.5", re_prob=0.5),
    "timm, evaluation": create_transform(8),
}
"""A transform of every kind, image -> (3, 8, 8)."""


Columns = dict[str, list[Any]]


class TableOfImages(Dataset[Any]):
    """Rows as mappings, several at a time as a list, and images as PIL's, as Hugging Face's `datasets` have them."""

    def __init__(self, columns: Columns, transform: Callable[[Columns], Columns] = dict) -> None:
        self.columns = columns
        self.transform = transform

    def with_format(self, kind: str) -> "TableOfImages":
        """Return the same rows as tensors: images as (C, H, W) uint8."""
        assert kind == "torch"
        return TableOfImages(self.columns, as_tensors)

    def with_transform(self, transform: Callable[[Columns], Columns]) -> "TableOfImages":
        """Return the rows that a function makes of these, some at a time: columns -> columns."""
        return TableOfImages(self.columns, transform)

    def set_transform(self, transform: Callable[[Columns], Columns]) -> None:
        """Let a function make the rows, as `with_transform` does for a copy."""
        self.transform = transform

    def __len__(self) -> int:
        return len(self.columns["label"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        columns = self.transform({name: [column[index] for index in indices] for name, column in self.columns.items()})
        return [{name: column[row] for name, column in columns.items()} for row in range(len(indices))]


def as_tensors(columns: Columns) -> Columns:
    def convert(value: Any) -> Tensor:
        array = torch.tensor(np.asarray(value))
        return array.permute(2, 0, 1) if isinstance(value, Image.Image) else array

    return {name: [convert(value) for value in column] for name, column in columns.items()}


def with_floats(columns: Columns) -> Columns:
    """Convert images to floats, as a user's transform does."""
    to_float = ToTensor()
    return {
        name: [to_float(value) if isinstance(value, Image.Image) else value for value in column]
        for name, column in columns.items()
    }


def table(key: str) -> tuple[TableOfImages, Tensor]:
    """Twelve images under this key, and the same as a tensor of floats."""
    pixels = np.random.default_rng(0).integers(256, size=(12, 8, 8, 3), dtype=np.uint8)
    columns: Columns = {"id": list(range(12)), key: [Image.fromarray(image) for image in pixels], "label": [0, 1] * 6}
    return TableOfImages(columns), torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255


def linear_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU(), nn.Linear(4, NUM_CLASSES))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images in a folder for each of two classes."""
    rng = np.random.default_rng(0)
    for name, brightness in (("bright", 128), ("dark", 0)):
        (tmp_path / name).mkdir()
        for number in range(6):
            pixels = brightness + rng.integers(128, size=(12, 12, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    return tmp_path


def assert_trains(dataset: Any, labels: list[int], **options: Any) -> None:
    """Train for a warm-up epoch and one of correction; check what the loader knows of the dataset."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, NUM_CLASSES))
        loader = MixNNDataLoader(
            DataLoader(dataset, batch_size=5, shuffle=True), model, warmup_epochs=1, correction_epoch=1, **options
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(2):
            seen = []
            for inputs, targets in loader:
                assert type(inputs) is Tensor
                assert inputs.shape == (len(targets), 3, 8, 8)
                optimizer.zero_grad()
                MixNNLoss()(model(inputs), targets).backward()
                optimizer.step()
                seen += targets.indices.tolist()
            assert sorted(seen) == list(range(len(labels)))
    assert loader.given_labels.tolist() == labels
    assert (loader.neighbor_indices >= 0).all()
    assert loader.clean_probability.isfinite().all()


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_torchvisions_fake_data(transform: Any) -> None:
    dataset = FakeData(12, (3, 12, 12), NUM_CLASSES, transform)
    labels = [int(label) for _, label in FakeData(12, (3, 12, 12), NUM_CLASSES)]
    with torch.random.fork_rng(devices=[]):
        assert_trains(dataset, labels)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_torchvisions_image_folder(transform: Any, folder: Path) -> None:
    assert_trains(ImageFolder(str(folder), transform), [0] * 6 + [1] * 6)


def test_a_part_of_an_image_folder(folder: Path) -> None:
    assert_trains(Subset(ImageFolder(str(folder), TRANSFORMS["v2"]), [0, 7, 2, 9, 4, 11]), [0, 1, 0, 1, 0, 1])


@pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedReader:ResourceWarning")  # timm leaves closing to Python
@pytest.mark.parametrize("name", ["timm, training", "timm, evaluation"])
def test_timms_image_dataset(name: str, folder: Path) -> None:
    open_folder: Any = ImageDataset
    assert_trains(open_folder(str(folder), transform=TRANSFORMS[name]), [0] * 6 + [1] * 6)


@pytest.mark.parametrize("key", ["image", "img", "pixel_values"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_hugging_face_rows_whose_images_a_transform_converts(key: str, num_workers: int) -> None:
    rows, images = table(key)
    copy = rows.with_transform(with_floats)
    rows.set_transform(with_floats)
    for dataset in (rows, copy):
        plain = DataLoader(dataset, batch_size=5, num_workers=num_workers)
        loader = MixNNDataLoader(plain, linear_model(), warmup_epochs=0, num_neighbors=2)
        for inputs, targets in loader:
            drawn = torch.cat([targets.indices.unsqueeze(1), targets.neighbors], dim=1)
            torch.testing.assert_close(inputs, torch.einsum("bk,bkchw->bchw", targets.weights, images[drawn]))
        assert loader.given_labels.tolist() == [0, 1] * 6


@pytest.mark.parametrize("num_workers", [0, 2])
def test_hugging_face_rows_in_torch_format_are_refused_as_bytes(num_workers: int) -> None:
    plain = DataLoader(table("image")[0].with_format("torch"), batch_size=5, num_workers=num_workers)
    message = r"inputs must be floating-point tensors to be mixed, got torch\.uint8; .*set_transform of Hugging Face"
    with pytest.raises(TypeError, match=message):
        next(iter(MixNNDataLoader(plain, linear_model())))


def test_rows_of_other_names_need_unpack() -> None:
    rows, _ = table("picture")
    rows.set_transform(with_floats)
    with pytest.raises(TypeError, match=r"keys \['id', 'picture', 'label'\]; pass unpack="):
        next(iter(MixNNDataLoader(rows, linear_model(), batch_size=3)))
    loader = MixNNDataLoader(rows, linear_model(), batch_size=3, unpack=("picture", "label"))
    assert sum(len(targets) for _, targets in loader) == 12
