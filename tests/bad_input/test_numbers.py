"""Losses and representations that are not finite, all the same or twice there; neighbors that are missing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from bad_input.hostile import Poisoned, run
from torch import Tensor, nn
from toy import NUM_FEATURES, Points, Samples, mlp

from mixnn_loader import MixNNDataLoader


class Constant(nn.Module):
    """Predicts by the first feature alone, from a table of logits."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.identity = nn.Linear(NUM_FEATURES, 3)
        self.table = table

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, num_features) -> (B, 3)."""
        logits: Tensor = self.table[inputs[:, 0].long()] + 0 * self.identity(inputs)
        return logits


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("neighbors", ["dataset", "random"])
def test_some_samples_diverge(poison: float, neighbors: Any) -> None:
    points = Points()
    threshold = points.inputs[:, 0].sort().values[-4].item()
    poisoned = points.inputs[:, 0] > threshold
    loader = MixNNDataLoader(
        points, Poisoned(threshold, poison), warmup_epochs=0, num_neighbors=2, neighbors=neighbors, batch_size=40
    )
    with pytest.warns(
        RuntimeWarning, match="3 of 40 samples have a NaN or infinite loss .* are not mixed with others"
    ) as caught:
        (batch,) = list(loader)
    assert [warning.category for warning in caught].count(RuntimeWarning) == 1
    assert (loader.clean_probability[poisoned] == 0).all()
    assert torch.equal(batch.targets.neighbors[poisoned], poisoned.nonzero().expand(-1, 2))
    healthy = batch.targets.neighbors[~poisoned]
    assert not poisoned[healthy].any()
    assert torch.isfinite(batch.targets.weights).all()


@pytest.mark.parametrize("neighbors", ["dataset", "batch", "random", "random-batch"])
@pytest.mark.parametrize("num_healthy", [1, 2])
def test_nearly_all_samples_diverge(neighbors: Any, num_healthy: int) -> None:
    points = Points()
    threshold = points.inputs[:, 0].sort().values[num_healthy - 1].item()
    loader = MixNNDataLoader(
        points,
        Poisoned(threshold, float("nan")),
        warmup_epochs=0,
        correction_epoch=None,
        num_neighbors=2,
        neighbors=neighbors,
        batch_size=40,
    )
    with pytest.warns(RuntimeWarning):
        (batch,) = list(loader)
    assert batch.targets.neighbors.shape == (40, 2)
    torch.testing.assert_close(batch.targets.weights.sum(1), torch.ones(40))


@pytest.mark.parametrize("neighbors", ["dataset", "batch", "random", "random-batch"])
def test_all_samples_diverge(neighbors: Any) -> None:
    loader = MixNNDataLoader(Points(), Poisoned(-1e9, float("nan")), warmup_epochs=0, batch_size=8, neighbors=neighbors)
    with pytest.raises(RuntimeError, match="has diverged; lower the learning rate or resume from an earlier"):
        run(loader)


def test_a_prediction_that_is_not_finite_leaves_the_target() -> None:
    points = Points()
    model = Poisoned(1e9, float("nan"))
    loader = MixNNDataLoader(points, model, warmup_epochs=0, correction_epoch=0, batch_size=20)
    batches = iter(loader)
    next(batches)
    before = loader.soft_targets.clone()
    model.threshold = points.inputs[20:, 0].median().item()
    bad = points.inputs[20:, 0] > model.threshold
    batch = next(batches)
    assert next(batches, None) is None  # the second has been trained on
    assert torch.equal(loader.soft_targets[20:][bad], before[20:][bad])
    assert (loader.soft_targets[20:][~bad] != before[20:][~bad]).any(1).all()
    assert batch.targets.mixed.isfinite().all()


@pytest.mark.parametrize(
    ("table", "label_of"),
    [
        pytest.param(torch.zeros(2, 3), lambda i: i % 3, id="every loss the same"),
        pytest.param(torch.tensor([[9.0, 0, 0], [0.0, 9, 0]]), lambda _: 0, id="two distinct losses"),
        pytest.param(torch.tensor([[1e4, 0, 0], [0.0, 0, 0]]), lambda i: 0 if i < 28 else i % 3, id="70 % zeros"),
    ],
)
def test_degenerate_losses(table: Tensor, label_of: Callable[[int], int]) -> None:
    inputs = torch.randn(40, NUM_FEATURES)
    inputs[:, 0] = (torch.arange(40) >= 28).float()
    samples = Samples([(x, label_of(i)) for i, x in enumerate(inputs)])
    loader = MixNNDataLoader(samples, Constant(table), warmup_epochs=0, batch_size=8)
    with pytest.warns(RuntimeWarning) as caught:
        batches = list(loader)
    assert [warning.category for warning in caught].count(RuntimeWarning) == 1
    posterior = loader.clean_probability
    assert ((posterior >= 0) & (posterior <= 1)).all()
    assert (posterior[:28].min() >= posterior[28:].max()) or (posterior == posterior[0]).all()
    for batch in batches:
        torch.testing.assert_close(batch.targets.weights.sum(1), torch.ones(8))


@pytest.mark.parametrize("search", ["exact", "hnsw"])
def test_duplicates_are_neighbors_but_never_oneself(search: str) -> None:
    inputs = torch.randn(10, NUM_FEATURES).repeat(4, 1)
    loader = MixNNDataLoader(
        Samples([(x, i % 3) for i, x in enumerate(inputs)]),
        mlp(),
        warmup_epochs=0,
        num_neighbors=3,
        batch_size=40,
        search=search,
    )
    run(loader)
    for row, neighbors in enumerate(loader.neighbor_indices.tolist()):
        assert sorted(neighbors) == sorted({row % 10 + 10 * copy for copy in range(4)} - {row})


class ShortAnswers:
    """A backend that finds one neighbor in even rows, and only the row itself in odd ones."""

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Tensor:
        """Answer as no backend should."""
        del k, queries
        distances = torch.cdist(representations.double(), representations.double())
        distances.fill_diagonal_(torch.inf)
        found = distances.argmin(dim=1, keepdim=True)
        found[1::2, 0] = torch.arange(len(found))[1::2]
        return torch.cat([found, torch.full_like(found, -1)], dim=1)


def test_a_backend_with_short_rows_is_completed() -> None:
    settings: dict[str, Any] = {"warmup_epochs": 0, "num_neighbors": 3, "batch_size": 40}
    short = MixNNDataLoader(Points(), mlp(), search=ShortAnswers(), **settings)
    exact = MixNNDataLoader(Points(), mlp(), search="exact", **settings)
    run(short)
    run(exact)
    assert torch.equal(short.neighbor_indices, exact.neighbor_indices)
