"""MixNN as a drop-in wrapper around a PyTorch data loader."""

from mixnn_loader.loader import MixNNDataLoader
from mixnn_loader.method.batch import MixNNBatch, MixNNTargets
from mixnn_loader.method.loss import MixNNLoss

__all__ = ["MixNNBatch", "MixNNDataLoader", "MixNNLoss", "MixNNTargets", "__version__"]

__version__ = "0.1.0"
