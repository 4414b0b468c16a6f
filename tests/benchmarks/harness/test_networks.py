"""Networks that are taken apart into stages are the networks that they were."""

from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn
from torchvision.models import vgg19_bn

from benchmarks.harness.networks import NETWORKS


def inception_resnet_v2() -> nn.Module:
    model: nn.Module = timm.create_model("inception_resnet_v2", num_classes=7)
    return model


def vgg19() -> nn.Module:
    model: nn.Module = vgg19_bn(num_classes=7)
    return model


@pytest.mark.parametrize(
    ("name", "build", "size", "width"),
    [("inception-resnet-v2", inception_resnet_v2, 227, 1536), ("vgg19-bn", vgg19, 64, 4096)],
)
def test_stages_have_the_layers_of_the_whole(name: str, build: Callable[[], nn.Module], size: int, width: int) -> None:
    with torch.device("meta"):  # shapes only: they have up to 140 million weights
        network, whole = NETWORKS[name]((3, size, size), 7), build()
        images = torch.empty(2, 3, size, size)
    layers, expected = (
        [repr(layer) for layer in model.modules() if not list(layer.children())] for model in (network, whole)
    )
    assert [layer for layer in layers if "Flatten" not in layer] == [
        layer for layer in expected if "Flatten" not in layer
    ]
    outputs = network.stage_outputs(images)
    assert len(outputs) > 3
    assert outputs[-1].shape == (2, width)
    assert network.head(outputs[-1]).shape == (2, 7)
