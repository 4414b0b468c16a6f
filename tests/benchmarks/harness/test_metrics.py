"""Every measurement against NumPy and scikit-learn."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    average_precision_score,
    precision_score,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)
from torch import Tensor

from benchmarks.harness.metrics import (
    calibration_error,
    correction_figures,
    memorization_figures,
    probabilities_of,
    ranking_figures,
)
from benchmarks.harness.metrics import test_figures as figures_on_test_data
from mixnn_loader.datasets.in_memory import InMemoryDataset

CLASSES = 12


@pytest.fixture
def predictions(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Probabilities (300, 12), better than chance, and labels."""
    labels = torch.randint(CLASSES, (300,), generator=generator)
    logits = 2 * torch.randn(300, CLASSES, generator=generator)
    logits[torch.arange(300), labels] += 2
    return logits.softmax(dim=1), labels


def test_accuracy_likelihood_and_worst_class(predictions: tuple[Tensor, Tensor]) -> None:
    probabilities, labels = (part.numpy() for part in predictions)
    found = figures_on_test_data(*predictions)
    predicted = probabilities.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(100 * (predicted == labels).mean())
    assert found["worst_class"] == pytest.approx(100 * recall_score(labels, predicted, average=None).min())
    assert found["nll"] == pytest.approx(-np.log(probabilities[np.arange(300), labels]).mean(), rel=1e-4)
    assert found["top5"] == pytest.approx(100 * top_k_accuracy_score(labels, probabilities, k=5))


def test_of_ten_classes_or_fewer_the_first_five_say_little() -> None:
    assert "top5" not in figures_on_test_data(torch.eye(10), torch.arange(10))


def test_an_impossible_label_has_a_finite_likelihood() -> None:
    nll = figures_on_test_data(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))["nll"]
    assert nll == pytest.approx(-np.log(1e-12), rel=1e-4)


def test_calibration_error_is_that_of_fifteen_bins(predictions: tuple[Tensor, Tensor]) -> None:
    probabilities = predictions[0].numpy()
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    # Too confident in some bins and too shy in others, so that neither the number of bins nor the signs are all one.
    hits = np.random.default_rng(0).random(300) < 0.5 + 0.5 * np.sin(40 * confidence)
    labels = np.where(hits, predicted, (predicted + 1) % CLASSES)

    def expected(num_bins: int) -> float:
        error, edges = 0.0, np.arange(num_bins + 1) / num_bins
        for low, high in itertools.pairwise(edges):
            members = (confidence > low) & (confidence <= high)
            if members.any():
                error += 100 * members.mean() * abs(hits[members].mean() - confidence[members].mean())
        return error

    assert expected(15) > 1.1 * max(expected(10), expected(14), 100 * abs(hits.mean() - confidence.mean()))
    assert calibration_error(predictions[0], torch.from_numpy(labels)) == pytest.approx(expected(15), abs=1e-4)


def test_who_is_certain_shares_a_bin_with_who_nearly_is() -> None:
    probabilities = torch.tensor([[1.0, 0.0], [0.96, 0.04]])
    labels = torch.tensor([1, 0])  # one wrong and one right in the bin: 50 % accuracy at 98 % confidence
    assert calibration_error(probabilities, labels) == pytest.approx(48)


def test_ranking_without_ties(generator: torch.Generator) -> None:
    is_noisy = torch.rand(400, generator=generator) < 0.3
    score = torch.randn(400, generator=generator) - 1.5 * is_noisy
    found = ranking_figures(score, is_noisy)
    suspicion, count = -score.numpy(), int(is_noisy.sum())
    flagged = np.zeros(400, dtype=bool)
    flagged[np.argsort(-suspicion)[:count]] = True
    assert found["auroc"] == pytest.approx(100 * roc_auc_score(is_noisy, suspicion))
    assert found["average_precision"] == pytest.approx(100 * average_precision_score(is_noisy, suspicion))
    # As many are taken as there are, so that precision, recall and F1 are one.
    assert found["f1"] == pytest.approx(100 * precision_score(is_noisy, flagged))
    assert found["f1"] == pytest.approx(100 * recall_score(is_noisy, flagged))


def test_among_equals_at_the_cut_the_expected_share_counts(generator: torch.Generator) -> None:
    is_noisy = torch.rand(200, generator=generator) < 0.4
    score = (torch.rand(200, generator=generator) > 0.7).float()
    found = ranking_figures(score, is_noisy)["f1"]
    rng, count, hits = np.random.default_rng(0), int(is_noisy.sum()), []
    for _ in range(3000):
        order = np.lexsort((rng.random(200), score.numpy()))
        hits.append(is_noisy.numpy()[order[:count]].mean())
    assert found == pytest.approx(100 * np.mean(hits), abs=0.3)


@pytest.mark.parametrize("is_noisy", [torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)])
def test_there_is_nothing_to_rank_where_all_labels_are_alike(is_noisy: Tensor) -> None:
    assert ranking_figures(torch.arange(4.0), is_noisy) == {"auroc": None, "average_precision": None, "f1": None}


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_scores_of_a_training_that_has_diverged_rank_nothing(value: float) -> None:
    score, is_noisy = torch.tensor([0.5, value, 0.1]), torch.tensor([False, True, True])
    assert ranking_figures(score, is_noisy) == {"auroc": None, "average_precision": None, "f1": None}


def test_corrected_labels() -> None:
    true = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    given = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])  # three wrong
    corrected = torch.tensor([0, 0, 2, 0, 1, 1, 1, 2])  # two of these mended, one right one broken
    found = correction_figures(corrected, given, true)
    assert found["right"] == pytest.approx(100 * 6 / 8)
    assert found["mended"] == pytest.approx(100 * 2 / 3)
    assert found["broken"] == pytest.approx(100 * 1 / 5)


def test_without_wrong_labels_nothing_is_mended() -> None:
    labels = torch.tensor([0, 1])
    assert correction_figures(labels, labels, labels) == {"right": 100, "mended": None, "broken": 0}


def test_memorization(predictions: tuple[Tensor, Tensor], generator: torch.Generator) -> None:
    probabilities, true = predictions
    wrong = torch.rand(300, generator=generator) < 0.4
    given = torch.where(wrong, (true + 1) % CLASSES, true)
    found = memorization_figures(probabilities, given, true)
    p, y, t, w = (part.numpy() for part in (probabilities, given, true, wrong))
    predicted, one_hot = p.argmax(axis=1), np.eye(CLASSES)[y]
    at_given = np.abs(p - one_hot)[np.arange(300), y]
    assert found["memorized"] == pytest.approx(100 * (predicted == y)[w].mean())
    assert found["recovered"] == pytest.approx(100 * (predicted == t)[w].mean())
    assert found["clean_accuracy"] == pytest.approx(100 * (predicted == t)[~w].mean())
    assert found["clean_gradient"] == pytest.approx(at_given[~w].mean(), abs=1e-6)
    assert found["noisy_gradient"] == pytest.approx(at_given[w].mean(), abs=1e-6)


def test_memorization_where_all_labels_are_right() -> None:
    labels = torch.tensor([0, 1])
    found = memorization_figures(torch.eye(2), labels, labels)
    assert found == {
        "memorized": None,
        "recovered": None,
        "clean_accuracy": 100,
        "clean_gradient": 0,
        "noisy_gradient": None,
    }


def test_a_dataset_is_predicted_whole_and_in_order() -> None:
    inputs = torch.rand(1203, 3)
    found = probabilities_of(
        lambda batch: batch * 2, InMemoryDataset(inputs, torch.zeros(1203, dtype=torch.int64)), torch.device("cpu")
    )
    torch.testing.assert_close(found, inputs * 2)
