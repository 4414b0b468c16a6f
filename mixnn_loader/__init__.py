"""MixNN as a drop-in wrapper around a PyTorch data loader."""

from mixnn_loader.data.corrected_labels import CorrectedLabels
from mixnn_loader.loader import MixNNDataLoader
from mixnn_loader.method.batch import MixNNBatch, MixNNTargets
from mixnn_loader.method.loss import MixNNLoss
from mixnn_loader.report.label_report import LabelReport

__all__ = [
    "CorrectedLabels",
    "LabelReport",
    "MixNNBatch",
    "MixNNDataLoader",
    "MixNNLoss",
    "MixNNTargets",
    "__version__",
]

__version__ = "0.1.0"
