"""Images as a network takes them, and as a person looks at them."""

from typing import Any

from torch import nn

from mixnn_loader.command.samples import ImageFiles, Rows, in_memory, read_image
from mixnn_loader.datasets.augment import ImageTransform, channel_statistics
from mixnn_loader.datasets.image_list import ImageList
from mixnn_loader.datasets.in_memory import InMemoryDataset


def files_of(samples: ImageFiles) -> ImageList:
    """Return files of images as a person looks at them."""
    return ImageList([samples.root / name for name in samples.names], samples.labels, loader=read_image)


def small_images(samples: ImageFiles | Rows, size: int, *, flip: bool) -> tuple[InMemoryDataset, InMemoryDataset, Any]:
    """Return images in memory with augmentation, without it, and as a person looks at them."""
    if isinstance(samples, Rows):
        images = InMemoryDataset(samples.inputs, samples.labels)
        statistics = channel_statistics(images.inputs)
    else:
        images = in_memory(samples, size)
        statistics = channel_statistics(images.inputs[samples.readable])
    mean, std = statistics[0], [max(value, 1e-3) for value in statistics[1]]
    scan = images.with_transform(ImageTransform(mean, std))
    # Not shifted: in a training as short as this the network then errs more, and flags more right labels.
    data = images.with_transform(ImageTransform(mean, std, flip=flip))
    return data, scan, images if isinstance(samples, Rows) else files_of(samples)


def for_timm(images: ImageList, model: nn.Module, size: int | None, *, flip: bool) -> tuple[ImageList, ImageList]:
    """Return images that are read when they are wanted, as one of timm's networks takes them, with augmentation or not.

    Args:
        images: as they are.
        model: the network.
        size: pixels that they are brought to; None: what the network was made for.
        flip: whether to mirror them at random.
    """
    import timm.data
    from torchvision import transforms

    data: Any = timm.data
    expected: dict[str, Any] = data.resolve_model_data_config(model)
    size = expected["input_size"][-1] if size is None else size
    last = [transforms.ToTensor(), transforms.Normalize(expected["mean"], expected["std"])]
    mirror = [transforms.RandomHorizontalFlip()] if flip else []
    random = [transforms.RandomResizedCrop(size, scale=(0.5, 1)), *mirror, *last]
    fixed = [transforms.Resize(size), transforms.CenterCrop(size), *last]
    return images.with_transform(transforms.Compose(random)), images.with_transform(transforms.Compose(fixed))
