"""One pass over the training data: the loss of every sample against its given label, and its representation."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader.model_view import ModelView
from mixnn_loader.nested import map_tensors
from mixnn_loader.sampling import LoadedBatch
from mixnn_loader.unpacking import Unpack, class_labels


@dataclass(frozen=True)
class ScanResult:
    """The model's view of n samples, in the order of the pass.

    Attributes:
        labels: (n,) int64 on the CPU, as given.
        losses: (n,) float32 on the model's device, cross-entropy against the given label.
        representations: (n, d) float32 on the model's device, or None where they were not asked for.
        num_classes: C, the width of the model's output.
    """

    labels: Tensor
    losses: Tensor
    representations: Tensor | None
    num_classes: int


def scan(
    batches: Iterable[LoadedBatch],
    num_samples: int,
    view: ModelView,
    unpack: Unpack,
    *,
    need_representations: bool,
) -> ScanResult:
    """Run the model over all batches, in eval mode and without gradient.

    Args:
        batches: a pass over n samples.
        num_samples: n.
        view: the model.
        unpack: collated batch -> (inputs, labels).
        need_representations: also keep what enters the feature layer.

    Raises:
        ValueError: a label is no class index.
    """
    device = view.device
    labels = torch.empty(num_samples, dtype=torch.int64)
    losses = torch.empty(num_samples, device=device)
    representations = None
    num_classes = start = 0
    for batch in batches:
        inputs, given = unpack(batch.samples)
        inputs = map_tensors(lambda tensor: tensor.to(device, non_blocking=True), inputs)
        predictions = view.predict(inputs, need_representations=need_representations)
        num_classes = predictions.logits.shape[1]
        rows = slice(start, start + len(batch.indices))
        start = rows.stop
        labels[rows] = class_labels(given, batch.indices, num_classes)
        losses[rows] = functional.cross_entropy(
            predictions.logits, labels[rows].to(device, non_blocking=True), reduction="none"
        )
        if predictions.representations is not None:
            if representations is None:
                representations = torch.empty(num_samples, predictions.representations.shape[1], device=device)
            representations[rows] = predictions.representations
    return ScanResult(labels, losses, representations, num_classes)
