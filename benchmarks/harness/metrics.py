"""What is measured: accuracy and calibration on test data, and how well wrong labels are found and mended."""

from collections.abc import Callable
from typing import Any

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

Figures = dict[str, float | None]
"""Measurements by name; None: there is nothing to measure."""

Predict = Callable[[Tensor], Tensor]
"""``inputs (B, ...) -> probabilities (B, C)``."""

CALIBRATION_BINS = 15
FEW_CLASSES = 10
EVALUATION_BATCH_SIZE = 500


@torch.no_grad()
def probabilities_of(predict: Predict, dataset: Dataset[Any], device: torch.device, workers: int = 0) -> Tensor:
    """Predict a whole dataset of (inputs, label), (n, C) float32 on the CPU; so many processes read it."""
    loader = DataLoader(dataset, EVALUATION_BATCH_SIZE, num_workers=workers)
    return torch.cat([predict(inputs.to(device)).float().cpu() for inputs, _ in loader])


def test_figures(probabilities: Tensor, labels: Tensor) -> Figures:
    """Measure predictions on test data.

    Args:
        probabilities: (n, C).
        labels: (n,) true.

    Returns:
        ``accuracy`` and ``worst_class`` (accuracy in the class where it is lowest) in percent, ``nll`` (mean negative
        log-likelihood, in nats) and ``ece`` (see `calibration_error`). Of more than ten classes also ``top5``, the
        share of samples with their class among the five most probable.
    """
    hits = probabilities.argmax(dim=1) == labels
    by_class = [hits[labels == label].float().mean() for label in torch.unique(labels)]
    figures: Figures = {
        "accuracy": percent(hits),
        "worst_class": 100 * torch.stack(by_class).min().item(),
        "nll": functional.nll_loss(probabilities.clamp(min=1e-12).log(), labels).item(),
        "ece": calibration_error(probabilities, labels),
    }
    if probabilities.shape[1] > FEW_CLASSES:
        figures["top5"] = percent((probabilities.topk(5, dim=1).indices == labels.unsqueeze(1)).any(dim=1))
    return figures


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Return the expected calibration error in percent (Guo et al. 2017): 15 bins of confidence, each (from, to].

    Args:
        probabilities: (n, C).
        labels: (n,) true.
    """
    confidence, predicted = probabilities.double().max(dim=1)
    # Upper edges belong to a bin: one who is certain is in the last bin, not in one of their own.
    bins = (confidence * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
    surplus = torch.zeros(CALIBRATION_BINS, dtype=torch.float64)
    surplus.index_add_(0, bins, (predicted == labels).double() - confidence)
    return 100 * surplus.abs().sum().item() / len(labels)


def ranking_figures(clean_score: Tensor, is_noisy: Tensor) -> Figures:
    """Measure how well a score tells wrong labels from right ones.

    Args:
        clean_score: (N,), larger where the label is more likely right.
        is_noisy: (N,) bool.

    Returns:
        In percent: ``auroc``, ``average_precision`` and ``f1`` of finding wrong labels; the last where as many are
        taken, the most suspicious first, as there are, so that it needs no threshold. None without wrong labels, and
        where a score is not finite: a run that has diverged is a result, too, and shall have its line.
    """
    if is_noisy.all() or not is_noisy.any() or not clean_score.isfinite().all():
        return dict.fromkeys(("auroc", "average_precision", "f1"))
    suspicion = -clean_score.double().cpu()
    count = int(is_noisy.sum())
    # Among equals at the cut, the expected share: which of them are taken means nothing.
    cut = suspicion.sort(descending=True).values[count - 1]
    above, at = suspicion > cut, suspicion == cut
    found = is_noisy[above].sum() + is_noisy[at].double().mean() * (count - int(above.sum()))
    return {
        "auroc": 100 * float(roc_auc_score(is_noisy, suspicion)),
        "average_precision": 100 * float(average_precision_score(is_noisy, suspicion)),
        "f1": 100 * float(found) / count,
    }


def correction_figures(corrected: Tensor, given: Tensor, true: Tensor) -> Figures:
    """Measure corrected labels, all (N,).

    Returns:
        In percent: ``right`` after correction (Table V), ``mended`` of the wrong ones, ``broken`` of the right ones.
    """
    wrong = given != true
    return {
        "right": percent(corrected == true),
        "mended": share(corrected == true, wrong),
        "broken": share(corrected != true, ~wrong),
    }


def memorization_figures(probabilities: Tensor, given: Tensor, true: Tensor) -> Figures:
    """Measure predictions of training samples, without augmentation.

    Args:
        probabilities: (N, C).
        given: (N,) labels.
        true: (N,) labels.

    Returns:
        In percent: of the mislabeled samples, those predicted as given (``memorized``) and as they truly are
        (``recovered``); of the others, those predicted right (``clean_accuracy``). And the size of the gradient's
        coefficient |p - ŷ| at the given class, as a mean over samples with right (``clean_gradient``) and with wrong
        labels (``noisy_gradient``), in [0, 1].
    """
    predicted, wrong = probabilities.argmax(dim=1), given != true
    coefficient = 1 - probabilities.gather(1, given.unsqueeze(1)).squeeze(1)
    return {
        "memorized": share(predicted == given, wrong),
        "recovered": share(predicted == true, wrong),
        "clean_accuracy": share(predicted == true, ~wrong),
        "clean_gradient": coefficient[~wrong].mean().item() if (~wrong).any() else None,
        "noisy_gradient": coefficient[wrong].mean().item() if wrong.any() else None,
    }


def percent(hits: Tensor) -> float:
    """Return the share of True, in percent."""
    return 100 * hits.double().mean().item()


def share(hits: Tensor, among: Tensor) -> float | None:
    """Return the share of True among some, in percent; None where there are none."""
    return percent(hits[among]) if among.any() else None
