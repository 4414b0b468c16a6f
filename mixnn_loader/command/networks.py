"""The networks that the command trains."""

from typing import Any

import torch
from torch import nn


def small_convolutional(channels: int, num_classes: int) -> nn.Module:
    """Build six 3x3 convolutions with BatchNorm, of widths 32, 64 and 64: for small images, on two cores."""
    layers: list[nn.Module] = []
    before = channels
    for width in (32, 64, 64):
        for _ in range(2):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes))


def perceptron(width: int, num_classes: int) -> nn.Module:
    """Build a network with one hidden layer: for features."""
    return nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, num_classes))


def from_timm(name: str, num_classes: int, weights: str | None, *, download: bool) -> nn.Module:
    """Build one of timm's networks.

    Args:
        name: timm's.
        num_classes: C.
        weights: a file of weights on disk, whose classifier may be of other classes; None: none.
        download: get timm's own weights.

    Raises:
        ImportError: timm is not installed.
        ValueError: it has no such network, or the file does not fit it.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError("--model needs timm: python -m pip install timm") from error
    if not timm.is_model(name):
        similar = timm.list_models(f"*{name}*")[:5]
        raise ValueError(f"timm has no model {name!r}" + (f"; it has {', '.join(similar)}" if similar else ""))
    model: nn.Module = timm.create_model(name, pretrained=download, num_classes=num_classes)
    if weights is not None:
        try:
            state: Any = torch.load(weights, map_location="cpu", weights_only=True)
            state = state.get("state_dict", state.get("model", state))
        except (MemoryError, OSError):
            raise
        except Exception as error:
            raise ValueError(f"{weights} holds no weights that can be read: {type(error).__name__}") from error
        own = model.state_dict()
        fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
        missing = [key for key in own if key not in fitting and not key.startswith(_classifier(model))]
        if missing:
            raise ValueError(
                f"{weights} does not fit {name}: it lacks {len(missing)} of its tensors, first {missing[0]}"
            )
        model.load_state_dict(fitting, strict=False)
    return model


def _classifier(model: Any) -> tuple[str, ...]:
    names = model.default_cfg.get("classifier", ())
    return (names,) if isinstance(names, str) else tuple(names)
