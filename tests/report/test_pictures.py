"""What is shown of a sample."""

import base64
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from mixnn_loader.report.pictures import LONGEST_TEXT, as_image, as_text, data_uri, inputs_of, normalization_of

BYTES = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
"""An image, (H, W, C)."""


def pixels(inputs: Any, **arguments: Any) -> np.ndarray:
    image = as_image(inputs, **arguments)
    assert image is not None
    return np.asarray(image)


@pytest.mark.parametrize(
    "inputs",
    [
        Image.fromarray(BYTES),
        Image.fromarray(BYTES).convert("RGBA"),
        BYTES,
        BYTES.transpose(2, 0, 1),
        torch.from_numpy(BYTES),
        torch.from_numpy(BYTES).permute(2, 0, 1),
        torch.from_numpy(BYTES).permute(2, 0, 1) / 255,
        torch.from_numpy(BYTES).permute(2, 0, 1).float(),
        BYTES / 255,
    ],
    ids=["pil", "rgba", "array", "array-chw", "tensor-hwc", "tensor", "floats", "floats-255", "array-floats"],
)
def test_every_kind_of_image_looks_the_same(inputs: Any) -> None:
    assert np.array_equal(pixels(inputs), BYTES)


def test_few_rows_are_no_channels() -> None:
    low = BYTES[:3]
    assert np.array_equal(pixels(low), low)
    assert np.array_equal(pixels(torch.from_numpy(low).permute(2, 0, 1)), low)


def test_gray_images() -> None:
    gray = BYTES[..., 0]
    for inputs in (Image.fromarray(gray), gray, gray[None], gray[..., None], torch.from_numpy(gray[None]) / 255):
        assert np.array_equal(pixels(inputs), gray)


def test_half_precision() -> None:
    image = torch.from_numpy(BYTES).permute(2, 0, 1) / 255
    assert np.abs(pixels(image.bfloat16()).astype(int) - BYTES).max() <= 1


@pytest.mark.parametrize("inputs", [torch.zeros(5), torch.zeros(2, 5, 7), torch.zeros(3, 1, 7), "text", {"a": 1}, 3])
def test_what_is_no_image(inputs: Any) -> None:
    assert as_image(inputs) is None


def test_a_normalization_is_found_and_undone() -> None:
    class Data:
        def __init__(self, transform: Any) -> None:
            self.transform = transform

    class Wrapper:
        dataset = Data(
            transforms.Compose(
                [transforms.ToTensor(), transforms.Compose([transforms.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.1))])]
            )
        )

    statistics = normalization_of(Wrapper())
    assert statistics is not None
    normalized = Wrapper.dataset.transform(Image.fromarray(BYTES))
    assert normalized.min() < 0
    assert np.abs(pixels(normalized, statistics=statistics).astype(int) - BYTES).max() <= 1
    assert normalization_of(SimpleNamespace(datasets=[Wrapper.dataset])) is not None
    assert normalization_of(Data(torch.nn.Sequential(transforms.Normalize((0.5,), (0.5,))))) is not None
    assert normalization_of(Data(transforms.ToTensor())) is None
    assert normalization_of(Data(None)) is None


def test_numbers_of_unknown_range_are_spread() -> None:
    spread = pixels(torch.linspace(-3, 5, 16).view(1, 4, 4))
    assert (spread.min(), spread.max()) == (0, 255)
    assert pixels(torch.full((1, 4, 4), torch.nan)).max() == 0
    assert pixels(torch.full((1, 4, 4), -2.0)).shape == (4, 4)


def decoded(uri: str) -> Image.Image:
    head, _, content = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_images_of_other_modes() -> None:
    deep = np.linspace(0, 65_535, 20).reshape(4, 5).astype(np.uint16)
    assert np.abs(pixels(Image.fromarray(deep)).astype(int) - deep // 257).max() <= 1
    floats = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    assert (pixels(Image.fromarray(floats)).min(), pixels(Image.fromarray(floats)).max()) == (0, 255)
    for mode in ("RGBA", "CMYK", "P", "1", "LA", "YCbCr"):
        assert pixels(Image.fromarray(BYTES).convert(mode)).shape[:2] == BYTES.shape[:2]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_what_is_transparent_is_white(mode: str) -> None:
    ink = np.zeros((6, 7, 4), dtype=np.uint8)  # black on nothing
    ink[2:4, 3:5, 3] = 255
    image = Image.fromarray(ink).convert(mode)
    if mode == "P":
        image = Image.fromarray((ink[..., 3] > 0).astype(np.uint8)).convert("P")
        image.putpalette([255, 0, 0, 0, 0, 0])
        image.info["transparency"] = 0
    seen = pixels(image)
    assert set(np.unique(seen)) == {0, 255}
    assert (seen[2:4, 3:5] == 0).all()
    assert (seen == 255).sum() == 3 * (6 * 7 - 4)


def test_a_tensor_with_transparency_is_on_white_too() -> None:
    ink = torch.zeros(4, 6, 7, dtype=torch.uint8)
    ink[3, 2:4, 3:5] = 255
    assert (pixels(ink) == 255).sum() == 3 * (6 * 7 - 4)


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_no_number_spoils_no_other(missing: float) -> None:
    floats = np.linspace(-3, 9, 20, dtype=np.float32).reshape(4, 5)
    expected = [pixels(inputs) for inputs in (Image.fromarray(floats), floats)]
    floats[0, 1:3] = missing
    for inputs, before in zip((Image.fromarray(floats), floats), expected, strict=True):
        assert np.abs(pixels(inputs)[1:].astype(int) - before[1:]).max() <= 1
    floats[:] = np.nan
    assert not pixels(Image.fromarray(floats)).any()


def test_pictures_stand_upright() -> None:
    image = Image.fromarray(BYTES)
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    file = io.BytesIO()
    image.save(file, format="PNG", exif=exif)
    assert pixels(Image.open(file)).shape == (7, 5, 3)


def test_a_little_more_than_one_is_not_two_hundred_and_fifty_five() -> None:
    image = torch.rand(3, 8, 8)
    image[0, 0, 0] = 1.01
    assert pixels(image).mean() > 100


def test_pictures_are_small() -> None:
    large = Image.fromarray(np.zeros((300, 600, 3), dtype=np.uint8))
    assert decoded(data_uri(large, 112, 80)).size == (112, 56)
    assert large.size == (600, 300)
    assert decoded(data_uri(Image.fromarray(BYTES), 56, 80)).size == (56, 40)
    assert decoded(data_uri(Image.new("RGB", (60, 30)), 112, 80)).size == (60, 30)
    assert decoded(data_uri(Image.new("L", (1, 4000)), 112, 80)).size == (1, 112)


def test_texts_and_rows() -> None:
    assert as_text("a < b") == "a < b"
    assert as_text(torch.tensor([1.0, 0.25])) == "1, 0.25"
    assert as_text(torch.arange(20)).endswith("14, 15, ...")
    assert as_text(np.float64(3)) == "3.0"
    assert as_text(np.array([1, "a", None], dtype=object)) == "1, a, None"
    assert as_text(np.array(["b", "c"])) == "b, c"
    assert as_text({"age": 3, "name": "x"}) == "age: 3; name: x"
    assert as_text(torch.zeros(2, 5)) == "Tensor of shape (2, 5)"
    assert len(as_text("x" * 1000)) == LONGEST_TEXT


def test_which_part_of_a_sample() -> None:
    assert inputs_of((1, 2, 3)) == 1
    assert inputs_of({"label": 0, "image": 5}) == 5
    assert inputs_of({"label": 0, "age": 5}) == {"age": 5}
    assert inputs_of("text") == "text"
    assert inputs_of(({"image": 5, "age": 3}, 1)) == 5
    assert inputs_of((7, "image", 1), key=1) == "image"
    assert inputs_of({"x": 3, "y": 1}, key="x") == 3
