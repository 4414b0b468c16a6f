"""MixNN as a drop-in wrapper around a PyTorch data loader: train on data whose labels are partly wrong.

    MixNNDataLoader   wraps a DataLoader, or a dataset, and mixes its batches
    MixNNLoss         takes the place of nn.CrossEntropyLoss, in training and in validation
    recipes           arguments to start from: MixNNDataLoader(loader, model, **recipes.robust(epochs=100))
    LabelReport       what loader.label_report() returns: which labels look wrong
    CorrectedLabels   a dataset with other labels
    MixNNBatch        what an epoch yields, a pair (inputs, targets) with MixNNTargets

Besides: `mixnn_loader.functional`, the equations; `mixnn_loader.neighbors`, searches and sources of neighbors;
`mixnn_loader.noise`, label noise; `mixnn_loader.datasets`, benchmarks; `mixnn_loader.plots`, pictures.
"""

from mixnn_loader.data.corrected_labels import CorrectedLabels
from mixnn_loader.loader import MixNNDataLoader
from mixnn_loader.method.batch import MixNNBatch
from mixnn_loader.method.loss import MixNNLoss
from mixnn_loader.method.targets import MixNNTargets
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
