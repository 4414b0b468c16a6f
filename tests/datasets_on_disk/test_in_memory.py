"""Samples kept as one tensor."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import VisionDataset

from mixnn_loader.datasets.in_memory import InMemoryDataset, images_of, read_images


def numbered(count: int = 5) -> InMemoryDataset:
    """Make images (count, 1, 2, 2) filled with their number, labeled by its parity."""
    return InMemoryDataset(torch.arange(count).view(-1, 1, 1, 1).expand(-1, 1, 2, 2), torch.arange(count) % 2)


def test_a_sample_is_its_input_and_its_label_as_an_integer() -> None:
    dataset = numbered()
    inputs, label = dataset[3]
    assert inputs.tolist() == [[[3, 3], [3, 3]]]
    assert label == 1
    assert type(label) is int
    assert len(dataset) == 5


def test_a_loader_asks_for_whole_batches_and_the_transform_sees_them_as_one() -> None:
    seen: list[tuple[int, ...]] = []

    def note(images: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(images.shape))
        return images.float() / 10

    dataset = numbered().with_transform(note)
    first, second = DataLoader(dataset, batch_size=3)
    assert seen == [(3, 1, 2, 2), (2, 1, 2, 2)]
    assert first[0][:, 0, 0, 0].tolist() == pytest.approx([0.0, 0.1, 0.2])
    assert second[1].tolist() == [1, 0]
    assert second[1].dtype == torch.int64


def test_other_labels_and_another_transform_leave_the_dataset_as_it_is() -> None:
    dataset = numbered().with_transform(lambda images: images + 1)
    other = dataset.with_targets([4, 3, 2, 1, 0])
    assert other[0][0][0, 0, 0] == 1, "the transform is kept"
    assert other.targets.tolist() == [4, 3, 2, 1, 0]
    assert dataset.targets.tolist() == [0, 1, 0, 1, 0]
    assert dataset.with_transform(None)[2][0][0, 0, 0] == 2
    assert dataset[2][0][0, 0, 0] == 3


def test_the_first_samples_only() -> None:
    few = numbered().with_transform(lambda images: images * 10).first(2)
    assert len(few) == 2
    assert few[1][0][0, 0, 0] == 10
    assert few.targets.tolist() == [0, 1]


def test_it_is_a_dataset_of_torchvision_and_says_what_is_in_it() -> None:
    text = repr(numbered())
    assert isinstance(numbered(), VisionDataset)
    assert "Number of datapoints: 5" in text
    assert "(1, 2, 2), torch.int64" in text


def test_as_many_labels_as_samples() -> None:
    with pytest.raises(ValueError, match="each of the 3 inputs, got 2"):
        InMemoryDataset(torch.zeros(3, 4), [0, 1])
    with pytest.raises(ValueError, match="each of the 5 inputs, got 1"):
        numbered().with_targets([0])


# --------------------------------------------------------------------------------------- images_of


def test_images_of_gray_and_of_color_datasets_have_channels_first() -> None:
    gray = torch.arange(12, dtype=torch.uint8).view(2, 2, 3)
    assert images_of(SimpleNamespace(data=gray)).shape == (2, 1, 2, 3)
    color = np.arange(36, dtype=np.uint8).reshape(2, 2, 3, 3)
    images = images_of(SimpleNamespace(data=color))
    assert images.shape == (2, 3, 2, 3)
    assert images.is_contiguous()
    assert images[1, 2, 0, 1] == color[1, 0, 1, 2]


@pytest.mark.parametrize("data", [torch.zeros(4), torch.zeros(2, 3, 4, 5)])
def test_images_of_something_else(data: torch.Tensor) -> None:
    with pytest.raises(TypeError, match="SimpleNamespace does not keep images in memory"):
        images_of(SimpleNamespace(data=data))
    with pytest.raises(TypeError, match="SimpleNamespace does not keep images in memory"):
        images_of(SimpleNamespace())


# ------------------------------------------------------------------------------------- read_images


def test_read_images_keeps_pixels_and_order() -> None:
    pixels = torch.randint(256, (3, 2, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    dataset = read_images([(Image.fromarray(image), label) for image, label in zip(pixels, [2, 0, 1], strict=True)])
    assert dataset.inputs.shape == (3, 3, 2, 5)
    assert (dataset.inputs.permute(0, 2, 3, 1).numpy() == pixels).all()
    assert dataset.targets.tolist() == [2, 0, 1]


def test_read_images_of_gray_images() -> None:
    assert read_images([(Image.new("L", (3, 2), 7), 0)]).inputs.tolist() == [[[[7, 7, 7], [7, 7, 7]]]]


def test_read_images_of_something_else() -> None:
    tensors: Any = [(torch.zeros(3, 2, 2), 0)]
    with pytest.raises(TypeError, match="PIL images, got Tensor; leave the dataset's transform out"):
        read_images(tensors)
    with pytest.raises(ValueError, match="no images"):
        read_images([])
