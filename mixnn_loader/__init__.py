"""MixNN as a drop-in wrapper around a PyTorch data loader."""

from mixnn_loader.batch import MixNNBatch, MixNNTargets
from mixnn_loader.loader import MixNNDataLoader
from mixnn_loader.loss import MixNNLoss

__all__ = ["MixNNBatch", "MixNNDataLoader", "MixNNLoss", "MixNNTargets"]
