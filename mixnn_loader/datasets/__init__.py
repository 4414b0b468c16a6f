"""Map-style datasets of image files, and label noise."""

from mixnn_loader.datasets.ilsvrc12 import ilsvrc_val
from mixnn_loader.datasets.image_folder import image_folder
from mixnn_loader.datasets.image_list import ImageList
from mixnn_loader.datasets.webvision import WEBVISION_MINI_CLASSES, webvision_mini

__all__ = ["WEBVISION_MINI_CLASSES", "ImageList", "ilsvrc_val", "image_folder", "webvision_mini"]
