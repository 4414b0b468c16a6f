"""Datasets as other libraries make them, wrapped as they come."""

from collections.abc import Mapping
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


class TableOfImages(Dataset[Any]):
    """Rows as mappings, columns by name; several at a time come as a list, as Hugging Face's `datasets` have it."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.columns = columns

    def with_format(self, kind: str) -> "TableOfImages":
        """Return the same rows as tensors."""
        assert kind == "torch"
        return TableOfImages({name: torch.as_tensor(np.asarray(column)) for name, column in self.columns.items()})

    def __len__(self) -> int:
        return len(self.columns["label"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: column[index] for name, column in self.columns.items()}

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return [self[index] for index in indices]


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


@pytest.mark.parametrize("key", ["image", "pixel_values"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_rows_of_a_hugging_face_dataset(key: str, num_workers: int) -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(12) % NUM_CLASSES).tolist()
    columns: dict[str, Any] = {
        "id": np.arange(12),
        key: rng.normal(size=(12, 3, 8, 8)).astype(np.float32),
        "label": labels,
    }
    images = torch.from_numpy(columns[key])
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU(), nn.Linear(4, NUM_CLASSES))
    for dataset in (TableOfImages(columns), TableOfImages(columns).with_format("torch")):
        plain = DataLoader(dataset, batch_size=5, num_workers=num_workers)
        loader = MixNNDataLoader(plain, model, warmup_epochs=0, num_neighbors=2, unpack=(key, "label"))
        for inputs, targets in loader:
            rows = torch.cat([targets.indices.unsqueeze(1), targets.neighbors], dim=1)
            torch.testing.assert_close(inputs, torch.einsum("bk,bkchw->bchw", targets.weights, images[rows]))
        assert loader.given_labels.tolist() == labels


def test_rows_without_unpack_are_refused_by_their_keys() -> None:
    dataset = TableOfImages({"picture": torch.zeros(6, 3, 8, 8), "label": torch.arange(6) % NUM_CLASSES})
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, NUM_CLASSES))
    with pytest.raises(TypeError, match=r"keys \['picture', 'label'\]; pass unpack="):
        next(iter(MixNNDataLoader(dataset, model, batch_size=3)))
