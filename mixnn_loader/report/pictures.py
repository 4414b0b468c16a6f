"""Samples as a person can look at them: small pictures, or a line of text."""

import base64
import io
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mixnn_loader._utils.sample_keys import INPUT_NAMES, LABEL_NAMES

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

TEXT_NAMES = ("text", "sentence")
"""What columns of texts are called on the Hugging Face Hub."""

LONGEST_TEXT = 400
"""Characters of a text, or of a row of numbers, that are shown."""

MOST_NUMBERS = 16
"""Entries of a row of numbers that are shown."""

Statistics = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def inputs_of(sample: Any, key: Hashable = None) -> Any:
    """Return what is to be shown of a sample: the first part of a pair; of a mapping image, text, or all but labels.

    Args:
        sample: the dataset's.
        key: which part it is; None: see above.
    """
    if key is not None:
        return sample[key]
    if isinstance(sample, (tuple, list)) and len(sample) > 0:
        sample = sample[0]
    if isinstance(sample, Mapping):
        for name in (*INPUT_NAMES, *TEXT_NAMES):
            if name in sample:
                return sample[name]
        return {name: value for name, value in sample.items() if name not in LABEL_NAMES}
    return sample


def as_image(inputs: Any, statistics: Statistics | None = None) -> "Picture | None":
    """Make a picture of an image: PIL's, or numbers of shape (H, W), (C, H, W) or (H, W, C) with 1, 3 or 4 channels.

    Args:
        inputs: one sample's.
        statistics: mean and standard deviation, a channel or one for all, that floats were normalized with; None: they
            are in [0, 1], or else are scaled to it.

    Returns:
        The picture, RGB or gray; None: it is no image.
    """
    from PIL import Image

    if isinstance(inputs, Image.Image):
        return as_rgb(inputs)
    if not isinstance(inputs, (Tensor, np.ndarray)):
        return None
    values = as_array(inputs)
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3:
        return None
    # Where both could be, arrays have their channels last, and tensors first.
    first, last = (values.shape[place] in (1, 3, 4) for place in (0, 2))
    if first and not (last and isinstance(inputs, np.ndarray)):
        values = values.transpose(1, 2, 0)
    if values.shape[2] not in (1, 3, 4) or min(values.shape[:2]) < 2:
        return None
    if values.shape[2] == 4 and values.dtype == np.uint8:
        return as_rgb(Image.fromarray(np.ascontiguousarray(values)))
    pixels = values[..., :3] if values.dtype == np.uint8 else _to_bytes(values[..., :3].astype(np.float64), statistics)
    return Image.fromarray(pixels[..., 0]) if pixels.shape[2] == 1 else Image.fromarray(pixels)


def as_rgb(image: "Picture") -> "Picture":
    """Turn a picture of any mode upright, and into RGB or gray, on white where it is transparent.

    More than 8 bits are brought to what 8 bits hold; a pixel that is no number becomes the darkest.
    """
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("L", "RGB"):
        return upright
    if upright.mode == "F" or upright.mode.startswith("I"):
        values = _finite(np.asarray(upright, dtype=np.float64))
        low, high = (0, 65_535) if upright.mode.startswith("I;16") else (values.min(), values.max())
        return Image.fromarray((255 * (values - low) / max(high - low, 1e-12)).clip(0, 255).astype(np.uint8))
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        above = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
    return upright.convert("RGB")


def as_array(values: Any) -> npt.NDArray[Any]:
    """Return an array of a tensor, floating point as float64, or of what NumPy takes."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()  # NumPy has no bfloat16
    array: npt.NDArray[Any] = (values.double() if values.is_floating_point() else values).numpy()
    return array


def as_text(inputs: Any) -> str:
    """Describe inputs that are no image in a line: a text as it is, a row of numbers by its first ones."""
    if isinstance(inputs, Mapping):
        text = "; ".join(f"{name}: {as_text(value)}" for name, value in inputs.items())
    elif isinstance(inputs, (Tensor, np.ndarray)) and inputs.ndim <= 1:
        listed = inputs.tolist() if inputs.ndim == 1 else [inputs.item()]
        more = ", ..." if len(listed) > MOST_NUMBERS else ""
        text = ", ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in listed[:MOST_NUMBERS])
        text += more
    elif isinstance(inputs, (Tensor, np.ndarray)):
        text = f"{type(inputs).__name__} of shape {tuple(inputs.shape)}"
    else:
        text = str(inputs)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 3] + "..."


def data_uri(image: "Picture", size: int, quality: int) -> str:
    """Encode a picture, shrunk to fit into a square of ``size`` pixels; a smaller one is enlarged by whole factors.

    Args:
        image: RGB or gray.
        size: of the square.
        quality: of the encoding, 1 to 100.
    """
    from PIL.Image import Resampling

    longest = max(image.size)
    if longest > size:
        image = image.copy()
        image.thumbnail((size, size))
    elif longest * 2 <= size:
        factor = size // longest
        image = image.resize((image.width * factor, image.height * factor), Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, format="WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def normalization_of(dataset: Any) -> Statistics | None:
    """Return mean and standard deviation of the first normalization in a dataset's transforms; None: there is none."""
    seen: list[Any] = [dataset]
    for place in range(64):
        if place >= len(seen):
            return None
        current = seen[place]
        mean, std = getattr(current, "mean", None), getattr(current, "std", None)
        if current is not dataset and _are_numbers(mean) and _are_numbers(std):
            return np.asarray(mean, dtype=np.float64).reshape(-1), np.asarray(std, dtype=np.float64).reshape(-1)
        for name in ("transform", "transforms", "dataset", "datasets", "_modules"):
            inner = getattr(current, name, None)
            inner = list(inner.values()) if name == "_modules" and inner is not None else inner
            if isinstance(inner, (list, tuple)):
                seen.extend(inner)
            elif inner is not None and not callable(getattr(type(inner), "tolist", None)):
                seen.append(inner)
    return None


def _finite(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Put the least number in the place of what is none."""
    is_number = np.isfinite(values)
    return np.where(is_number, values, values[is_number].min() if is_number.any() else 0)


def _to_bytes(values: npt.NDArray[np.float64], statistics: Statistics | None) -> npt.NDArray[np.uint8]:
    """Turn an image (H, W, C) of any numbers into bytes."""
    values = _finite(values)
    if statistics is not None and all(len(part) in (1, values.shape[2]) for part in statistics):
        values = values * statistics[1] + statistics[0]
    elif values.min() >= 0 and 2 < values.max() <= 255:  # up to 2 it is rather [0, 1] with what a resize added
        values = values / 255
    elif values.min() < 0 or values.max() > 2:
        low, high = values.min(), values.max()
        values = (values - low) / max(high - low, 1e-12)
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def _are_numbers(values: Any) -> bool:
    if isinstance(values, Tensor):
        return values.is_floating_point()
    if isinstance(values, (Sequence, np.ndarray)) and not isinstance(values, str) and len(values) > 0:
        return all(isinstance(value, (int, float, np.floating)) for value in values)
    return isinstance(values, float)
