"""Step 1 of Algorithm 1: one pass over the data -> the loss and the representation of every sample."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader._utils.transfer import to_device
from mixnn_loader.data.labels import class_labels
from mixnn_loader.data.to_device import ReceivedBatch
from mixnn_loader.model.predictor import ModelView
from mixnn_loader.run.sample_table import SampleTable


def scan(
    batches: Iterable[ReceivedBatch],
    view: ModelView,
    table: SampleTable,
    *,
    need_representations: bool,
    keep_predictions: bool = False,
) -> None:
    """Run the model over all batches, in eval mode and without gradient, and record what it says.

    Args:
        batches: the pass.
        view: the model.
        table: gets labels, losses and representations.
        need_representations: also keep what enters the feature layer.
        keep_predictions: also write the probability of each class in place of its average.

    Raises:
        ValueError: a label is no class index, or not what it was.
    """
    for batch in batches:
        indices = batch.batch_indices()
        predictions = view.predict(batch.inputs, need_representations=need_representations)
        num_classes = predictions.logits.shape[1]
        table.to(view.device)
        table.set_num_classes(num_classes)
        labels = class_labels(batch.labels, indices.host, num_classes)
        table.check_labels(indices.host, labels)
        table.record_labels(indices.host, labels)
        losses, is_other = judged(predictions.logits, to_device(labels, predictions.logits.device))
        table.record_predictions(indices, losses, is_other, predictions.representations)
        if keep_predictions:
            table.make_averages()
            table.write("averages", indices, predictions.logits.float().softmax(dim=1))


def judged(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of each sample against its given label, (B,), and whether another class is predicted.

    Args:
        logits: (B, C) float.
        labels: (B,) int64 beside the logits, in 0..C-1.
    """
    with torch.no_grad():
        return functional.cross_entropy(logits, labels, reduction="none"), logits.argmax(dim=1) != labels
