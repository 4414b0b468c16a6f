"""``correct_neighbors=False``: neighbors bring their given labels (the last lines of Algorithm 1)."""

from typing import Any

import numpy as np
import pytest
import torch
from integration.reference import Reference
from toy import NUM_CLASSES, Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss

ALPHA, K = 0.6, 2


def probabilities(model: torch.nn.Module, indices: torch.Tensor) -> np.ndarray:
    """Ask the model as it is before the step."""
    model.eval()
    with torch.no_grad():
        answer = model(Points().inputs[indices]).double().softmax(dim=1).numpy()
    model.train()
    return np.asarray(answer)


@pytest.mark.parametrize("correct_neighbors", [True, False])
@pytest.mark.parametrize(
    "mode",
    [{}, {"neighbors": "batch"}, {"neighbors": "random"}, {"neighbors": "random-batch", "scan": "running"}],
    ids=str,
)
def test_targets_are_those_of_the_reference(mode: dict[str, Any], correct_neighbors: bool) -> None:
    points, model = Points(), mlp()
    settings: dict[str, Any] = {"num_neighbors": K, "warmup_epochs": 1, "correction_epoch": 2, "momentum": ALPHA}
    loader = MixNNDataLoader(
        points, model, batch_size=8, shuffle=True, correct_neighbors=correct_neighbors, **settings, **mode
    )
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.1), MixNNLoss()
    reference = Reference(points.inputs.double().numpy(), points.labels.numpy(), NUM_CLASSES, K, 1, 2, ALPHA)
    one_hot = np.eye(NUM_CLASSES)[points.labels.numpy()]
    for epoch in range(5):
        for inputs, targets in loader:
            indices, neighbors = targets.indices.numpy(), targets.neighbors.numpy()
            reference.correct(epoch, indices, probabilities(model, targets.indices))
            own, theirs = reference.soft_targets[indices], one_hot[neighbors]
            if correct_neighbors:
                theirs = reference.soft_targets[neighbors]
            expected = np.concatenate([own[:, None], theirs], axis=1)
            np.testing.assert_allclose(targets.soft_targets.numpy(), expected, atol=1e-5)
            mixed = (targets.weights.double().numpy()[:, :, None] * expected).sum(axis=1)
            np.testing.assert_allclose(targets.mixed.numpy(), mixed, atol=1e-5)
            loss = criterion(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    np.testing.assert_allclose(loader.soft_targets.numpy(), reference.soft_targets, atol=1e-5)
