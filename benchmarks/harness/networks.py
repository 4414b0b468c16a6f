"""Networks, all of one form: stages, one after another, and a linear layer on what comes out."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, resnet34, resnet50, vgg19_bn

from benchmarks.harness.cost import Meter


class Network(nn.Module):
    """Inputs -> stages -> representations (B, d) -> linear head -> logits (B, C).

    Args:
        stages: the parts before the head; the last one gives (B, d).
        head: the classifier.

    Attributes:
        meter: counts what goes through; None: nothing does.
    """

    def __init__(self, stages: Sequence[nn.Module], head: nn.Linear) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.head = head
        self.meter: Meter | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, C)."""
        logits: Tensor = self.head(self.represent(inputs))
        return logits

    def represent(self, inputs: Tensor) -> Tensor:
        """Return representations (B, d), what enters the head."""
        return self.stage_outputs(inputs)[-1]

    def stage_outputs(self, inputs: Tensor) -> list[Tensor]:
        """Return what each stage gives; the last one the representations."""
        outputs: list[Tensor] = []
        for stage in self.stages:
            inputs = stage(inputs)
            outputs.append(inputs)
        if self.meter is not None:
            self.meter.count(inputs)
        return outputs


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        return torch.relu(self.body(inputs) + self.shortcut(inputs))


class PreActBlock(nn.Module):
    """BatchNorm and ReLU before each of two 3x3 convolutions, and a shortcut (He et al. 2016, "Identity mappings")."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
        )
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        activated = self.activate(inputs)
        kept = inputs if self.shortcut is None else self.shortcut(activated)
        outputs: Tensor = self.body(activated) + kept
        return outputs


def _pooled() -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def mlp(shape: Sequence[int], num_outputs: int, widths: tuple[int, ...] = (512, 128)) -> Network:
    """Build a multilayer perceptron on flattened inputs."""
    sizes = [int(torch.Size(shape).numel()), *widths]
    stages = [
        nn.Sequential(nn.Flatten(), nn.Linear(before, after), nn.ReLU()) for before, after in itertools.pairwise(sizes)
    ]
    return Network(stages, nn.Linear(sizes[-1], num_outputs))


def small_resnet(shape: Sequence[int], num_outputs: int, width: int = 8) -> Network:
    """Build a strided stem and three residual blocks, with 4 * width features: for 28 x 28 images on a CPU.

    Not for images of more than 64 pixels: in `torch.channels_last` the backward pass of a 1x1 convolution with stride 2
    and fewer channels than a vector register holds writes past its memory there (oneDNN's issue 6035), and the process
    may abort.
    """
    stem = nn.Sequential(nn.Conv2d(shape[0], width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    stages = [
        stem,
        ResidualBlock(width, width, 1),
        ResidualBlock(width, 2 * width, 2),
        nn.Sequential(ResidualBlock(2 * width, 4 * width, 2), *_pooled()),
    ]
    return Network(stages, nn.Linear(4 * width, num_outputs))


def convnet(shape: Sequence[int], num_outputs: int, widths: tuple[int, ...] = (32, 64, 64)) -> Network:
    """Build six 3x3 convolutions with BatchNorm, pooled after each first of two: 17 M multiply-adds at 32 x 32."""
    channels, stages = shape[0], list[nn.Module]()
    for width in widths:
        stages.append(
            nn.Sequential(
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.MaxPool2d(2),
                nn.BatchNorm2d(width),
                nn.GELU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.GELU(),
            )
        )
        channels = width
    stages[-1] = nn.Sequential(stages[-1], *_pooled())
    return Network(stages, nn.Linear(channels, num_outputs))


def small_image_resnet34(shape: Sequence[int], num_outputs: int) -> Network:
    """Build torchvision's ResNet34 with a stem for 32 x 32 images: 3x3, stride 1, and no pooling (as the paper's)."""
    network = resnet34(num_classes=num_outputs)
    network.conv1 = nn.Conv2d(shape[0], 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    return _in_stages(network)


def imagenet_resnet50(shape: Sequence[int], num_outputs: int) -> Network:
    """Build torchvision's ResNet50 with weights trained on ImageNet, and a new head (Clothing1M)."""
    del shape
    network = resnet50(weights="IMAGENET1K_V2")
    network.fc = nn.Linear(network.fc.in_features, num_outputs)
    return _in_stages(network)


def inception_resnet_v2(shape: Sequence[int], num_outputs: int) -> Network:
    """Build timm's InceptionResNetV2 with random weights (WebVision-mini); it takes any size, the paper's is 227."""
    import timm

    network: Any = timm.create_model("inception_resnet_v2", num_classes=num_outputs, in_chans=shape[0])
    ends = ("conv2d_4a", "repeat", "repeat_1", "conv2d_7b")
    stages: list[list[nn.Module]] = [[]]
    for name in network.layer_names:
        stages[-1].append(getattr(network, name))
        if name in ends:
            stages.append([])
    stages[-2] += [network.global_pool, network.head_drop]
    return Network([nn.Sequential(*stage) for stage in stages[:-1]], network.classif)


def vgg19(shape: Sequence[int], num_outputs: int) -> Network:
    """Build torchvision's VGG19 with BatchNorm and random weights (ANIMAL-10N)."""
    del shape
    network: Any = vgg19_bn(num_classes=num_outputs)
    stages: list[list[nn.Module]] = [[]]
    for layer in network.features:
        stages[-1].append(layer)
        if isinstance(layer, nn.MaxPool2d):
            stages.append([])
    *hidden, head = network.classifier
    stages[-1] = [network.avgpool, nn.Flatten(), *hidden]
    return Network([nn.Sequential(*stage) for stage in stages], head)


def preact_resnet18(shape: Sequence[int], num_outputs: int) -> Network:
    """Build PreActResNet18 for 32 x 32 images, the network of many of the rivals' papers."""
    stages: list[nn.Module] = [nn.Conv2d(shape[0], 64, 3, 1, 1, bias=False)]
    channels = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        stages.append(nn.Sequential(PreActBlock(channels, width, stride), PreActBlock(width, width, 1)))
        channels = width
    stages[-1] = nn.Sequential(stages[-1], nn.BatchNorm2d(channels), nn.ReLU(), *_pooled())
    return Network(stages, nn.Linear(channels, num_outputs))


def _in_stages(network: ResNet) -> Network:
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    last = nn.Sequential(network.layer4, *_pooled())
    return Network([stem, network.layer1, network.layer2, network.layer3, last], network.fc)


Builder = Callable[[Sequence[int], int], Network]
"""``(shape of an input, C) -> network``."""

NETWORKS: dict[str, Builder] = {
    "mlp": mlp,
    "small-resnet": small_resnet,
    "convnet": convnet,
    "resnet34": small_image_resnet34,
    "resnet50-imagenet": imagenet_resnet50,
    "inception-resnet-v2": inception_resnet_v2,
    "vgg19-bn": vgg19,
    "preact-resnet18": preact_resnet18,
}
