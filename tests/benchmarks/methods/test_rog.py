"""RoG: distributions that outliers hardly move, weights of layers, and classifying without the network's head."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from toy_task import Toy, accuracy, toy, train

from benchmarks.methods.common.gaussians import Gaussians
from benchmarks.methods.rog import RoG, best_weights

Array = npt.NDArray[Any]

NUM_CLASSES, NUM_FEATURES = 3, 4


def clouds(rate: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features (n, d), true and given labels (n,), and the true means (C, d)."""
    rng = np.random.default_rng(seed)
    centers = 6 * np.eye(NUM_FEATURES)[:NUM_CLASSES]
    true = rng.integers(NUM_CLASSES, size=1500)
    features = centers[true] + rng.normal(size=(1500, NUM_FEATURES))
    given = np.where(rng.random(1500) < rate, (true + 1) % NUM_CLASSES, true)
    return tuple(torch.from_numpy(part) for part in (features, true, given, centers))  # type: ignore[return-value]  # four, as said


def test_without_outliers_it_is_linear_discriminant_analysis() -> None:
    features, true, _, _ = clouds(0.0)
    found = Gaussians(NUM_CLASSES, NUM_FEATURES)
    found.fit(features, true, 1.0)
    priors = np.full(NUM_CLASSES, 1 / NUM_CLASSES)
    expected = LinearDiscriminantAnalysis(solver="lsqr", priors=priors).fit(features, true)
    # scikit-learn weighs the classes' covariances by the priors, and here they are nearly of one size.
    np.testing.assert_allclose(found(features).numpy(), expected.predict_proba(features), atol=0.01)
    for label in range(NUM_CLASSES):
        np.testing.assert_allclose(found.means[label].numpy(), features[true == label].mean(dim=0).numpy())


def test_keeps_the_nearest_of_each_class() -> None:
    features, _, given, _ = clouds(0.2)
    method = Gaussians(NUM_CLASSES, NUM_FEATURES)
    torch.manual_seed(0)
    order = torch.randperm(1500).numpy()
    torch.manual_seed(0)
    method.fit(features, given, 0.7)

    def estimate(rows_by_class: list[Array]) -> tuple[Array, Array]:
        means = np.stack([x[rows].mean(axis=0) for rows in rows_by_class])
        covariances = [np.cov(x[rows].T, bias=True) for rows in rows_by_class]
        sizes = [(y == label).sum() for label in range(NUM_CLASSES)]
        return means, np.linalg.inv(np.average(covariances, axis=0, weights=sizes))

    x, y = features.numpy(), given.numpy()
    drawn = [order[y[order] == label] for label in range(NUM_CLASSES)]
    means, precision = estimate([rows[: int(0.7 * len(rows))] for rows in drawn])
    kept = []
    for label in range(NUM_CLASSES):
        rows = np.flatnonzero(y == label)
        distances = [(x[row] - means[label]) @ precision @ (x[row] - means[label]) for row in rows]
        kept.append(rows[np.argsort(distances)[: int(0.7 * len(rows))]])
    means, precision = estimate(kept)
    np.testing.assert_allclose(method.means.numpy(), means, rtol=1e-6)
    np.testing.assert_allclose(method.precision.numpy(), precision, rtol=1e-6, atol=1e-9)


def test_wrong_labels_move_it_less_than_plain_means() -> None:
    features, _, given, centers = clouds(0.3)
    method = Gaussians(NUM_CLASSES, NUM_FEATURES)
    torch.manual_seed(0)
    method.fit(features, given, 0.7)
    plain = torch.stack([features[given == label].mean(dim=0) for label in range(NUM_CLASSES)])
    assert (method.means - centers).norm() < 0.7 * (plain - centers).norm()


def test_score_is_lower_for_wrong_labels() -> None:
    features, true, given, _ = clouds(0.3)
    method = Gaussians(NUM_CLASSES, NUM_FEATURES)
    torch.manual_seed(0)
    method.fit(features, given, 0.7)
    assert roc_auc_score(given != true, -method.scores(features, given)) > 0.95


def test_directions_without_variance_do_no_harm() -> None:
    features, true, _, _ = clouds(0.0)
    wide = torch.cat([features, torch.zeros(1500, 2), features[:, :1]], dim=1).float()
    method = Gaussians(NUM_CLASSES, NUM_FEATURES + 3)
    method.fit(wide, true, 0.7)
    assert (method(wide).argmax(dim=1) == true).float().mean() > 0.99


def test_weights_are_of_the_layers_that_predict() -> None:
    labels = torch.arange(200) % 4
    good = 0.9 * torch.eye(4)[labels] + 0.025
    useless = torch.full((200, 4), 0.25)
    torch.manual_seed(0)
    weights = best_weights(torch.stack([useless, good, useless]), labels)
    assert weights.sum().item() == pytest.approx(1)
    assert weights[1] > 0.75


@pytest.fixture(scope="module")
def made() -> Toy:
    return toy(rate=0.3, epochs=4, num_samples=1200)


def test_classifies_without_the_networks_head(made: Toy) -> None:
    method = RoG(made.task, num_layers=1, num_validation=20)
    train(method)
    method.base.learner.network.head.weight.data.zero_()
    assert accuracy(method.base, made) < 0.5
    assert accuracy(method, made) > 0.8
    with torch.no_grad():
        representations = made.task.scan(method.base.learner).representations
    expected = method.gaussians[0].scores(representations, made.given).float()
    torch.testing.assert_close(method.clean_score(), expected)


def test_counts_a_single_scan() -> None:
    made = toy(epochs=4, num_samples=200)
    method = RoG(made.task, num_layers=1)
    train(method, epochs=3)
    assert made.task.meter.forward == 3 * 200
    assert method.is_fitted
    train(method, first=3)
    assert made.task.meter.forward == 5 * 200
