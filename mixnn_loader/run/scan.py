"""Step 1 of Algorithm 1: one pass over the data -> the loss and the representation of every sample."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader.data.labels import class_labels
from mixnn_loader.data.to_device import ReceivedBatch
from mixnn_loader.model.predictor import ModelView, Predictions
from mixnn_loader.run.sample_table import SampleState


def scan(
    batches: Iterable[ReceivedBatch],
    view: ModelView,
    state: SampleState,
    *,
    need_representations: bool,
) -> None:
    """Run the model over all batches, in eval mode and without gradient, and record what it says.

    Args:
        batches: the pass.
        view: the model.
        state: gets labels, losses and representations.
        need_representations: also keep what enters the feature layer.

    Raises:
        ValueError: a label is no class index, or not what it was.
    """
    for batch in batches:
        indices = batch.loaded.indices
        predictions = view.predict(batch.inputs, need_representations=need_representations)
        num_classes = predictions.logits.shape[1]
        state.to(view.device)
        state.set_num_classes(num_classes)
        labels = class_labels(batch.labels, indices, num_classes)
        state.record_labels(indices, labels)
        losses = losses_of(predictions, labels.to(predictions.logits.device, non_blocking=True))
        state.record_predictions(indices, losses, predictions.representations)


def losses_of(predictions: Predictions, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each sample against its given label, (B,).

    Args:
        predictions: of B samples.
        labels: (B,) int64 beside the logits, in 0..C-1.
    """
    with torch.no_grad():
        return functional.cross_entropy(predictions.logits, labels, reduction="none")
