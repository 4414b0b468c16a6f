"""Map-style datasets: benchmarks of label noise, image files, and batches of balanced classes."""

from mixnn_loader.datasets.animal10n import ANIMAL10N_CLASSES, animal10n
from mixnn_loader.datasets.augment import ImageTransform, channel_statistics
from mixnn_loader.datasets.balanced import ClassBalancedBatchSampler
from mixnn_loader.datasets.cifar import cifar10, cifar100
from mixnn_loader.datasets.cifar_n import (
    CIFAR10N_LABEL_SETS,
    CIFAR100N_LABEL_SETS,
    cifar10n,
    cifar100n,
    human_labels,
)
from mixnn_loader.datasets.clothing1m import CLOTHING1M_CLASSES, clothing1m
from mixnn_loader.datasets.digits import digits
from mixnn_loader.datasets.food101 import food101
from mixnn_loader.datasets.food101n import FOOD101N_CLASSES, food101n, food101n_verification
from mixnn_loader.datasets.ilsvrc12 import ilsvrc_val
from mixnn_loader.datasets.image_folder import image_folder, in_memory_folder
from mixnn_loader.datasets.image_list import ImageList
from mixnn_loader.datasets.in_memory import InMemoryDataset, read_images
from mixnn_loader.datasets.mnist import fashion_mnist, mnist
from mixnn_loader.datasets.webvision import WEBVISION_MINI_CLASSES, webvision_mini

__all__ = [
    "ANIMAL10N_CLASSES",
    "CIFAR10N_LABEL_SETS",
    "CIFAR100N_LABEL_SETS",
    "CLOTHING1M_CLASSES",
    "FOOD101N_CLASSES",
    "WEBVISION_MINI_CLASSES",
    "ClassBalancedBatchSampler",
    "ImageList",
    "ImageTransform",
    "InMemoryDataset",
    "animal10n",
    "channel_statistics",
    "cifar10",
    "cifar10n",
    "cifar100",
    "cifar100n",
    "clothing1m",
    "digits",
    "fashion_mnist",
    "food101",
    "food101n",
    "food101n_verification",
    "human_labels",
    "ilsvrc_val",
    "image_folder",
    "in_memory_folder",
    "mnist",
    "read_images",
    "webvision_mini",
]
