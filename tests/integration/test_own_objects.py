"""A source of neighbors, a weighting and a credibility from outside of the package, and training with them."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import Points, mlp

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss
from mixnn_loader.functional import Credibility, Estimate, Evidence
from mixnn_loader.neighbors import Candidates, NeighborSource, Pairs

K = 2


class SameLabel(NeighborSource):
    """Members of the same given label, drawn at random."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels.numpy()

    def draw(self, indices: np.ndarray, k: int, candidates: Candidates, rng: np.random.Generator) -> np.ndarray:
        drawn = np.repeat(indices[:, None], k, axis=1)
        for row, index in enumerate(indices):
            same = candidates.members[self.labels[candidates.members] == self.labels[index]]
            others = same[same != index]
            found = rng.permutation(others)[:k]
            drawn[row, : len(found)] = found
        return drawn


class Farthest(NeighborSource):
    """The farthest in the batch."""

    def __init__(self) -> None:
        self.sees = "batch"

    def pair(self, indices: Tensor, representations: Tensor | None, k: int, rng: np.random.Generator) -> Pairs:
        del rng
        assert representations is not None
        distances = torch.cdist(representations, representations)
        distances = distances.masked_fill(indices[:, None] == indices, -1)
        k_there = min(k, len(indices))
        values, positions = distances.topk(k_there, dim=1)
        own = torch.arange(len(indices))[:, None].repeat(1, k)
        found = torch.zeros_like(own, dtype=torch.bool)
        own[:, :k_there], found[:, :k_there] = torch.where(values >= 0, positions, own[:, :k_there]), values >= 0
        return Pairs(own, found)


class Cosine(NeighborSource):
    """The nearest in the dataset by angle."""

    def __init__(self) -> None:
        self.sees = "dataset"

    def pool_size(self, k: int) -> int:
        return k

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Any:
        rows = torch.nn.functional.normalize(representations, dim=1)
        asked = torch.arange(len(rows)) if queries is None else queries
        similar = rows[asked] @ rows.T
        similar[torch.arange(len(asked)), asked] = -2
        return similar.topk(k, dim=1).indices, "cosine", None

    def draw(self, indices: np.ndarray, k: int, candidates: Candidates, rng: np.random.Generator) -> np.ndarray:
        del k, rng
        return np.asarray(candidates.pool[indices])


def only_the_likely(log_posteriors: Tensor, found: Tensor, rng: np.random.Generator) -> Tensor:
    """Trust who is rather clean than not, all the same; where nobody is, the sample itself."""
    del rng
    trusted = log_posteriors > np.log(0.5)
    trusted[:, 1:] &= found
    trusted[:, 0] |= ~trusted.any(dim=1)
    weights: Tensor = trusted / trusted.sum(dim=1, keepdim=True)
    return weights


class Ranks(Credibility):
    """P falls with the rank of the loss, from one to zero."""

    def estimate(self, evidence: Evidence, warn: Any) -> Estimate:
        del warn
        ranks = evidence.losses.nan_to_num(nan=torch.inf).argsort().argsort()
        return Estimate((1 - ranks / len(ranks)).log().clamp(max=0), None)


def trained(epochs: int = 5, **arguments: Any) -> tuple[MixNNDataLoader, list[list[MixNNBatch]]]:
    torch.manual_seed(0)
    model = mlp()
    settings: dict[str, Any] = {"warmup_epochs": 1, "correction_epoch": 3, "num_neighbors": K}
    loader = MixNNDataLoader(Points(), model, batch_size=8, shuffle=True, **(settings | arguments))
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.1), MixNNLoss()
    seen: list[list[MixNNBatch]] = []
    for _ in range(epochs):
        seen.append([])
        for inputs, targets in loader:
            loss = criterion(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen[-1].append(MixNNBatch(inputs, targets))
    return loader, seen


def assert_mixed_as_told(batch: MixNNBatch) -> None:
    points, targets = Points(), batch.targets
    groups = points.inputs[targets.groups]
    torch.testing.assert_close(batch.inputs, (targets.weights.unsqueeze(2) * groups).sum(dim=1))
    assert torch.equal(targets.labels, points.labels[targets.indices])


def test_neighbors_of_the_same_label() -> None:
    points = Points()
    loader, seen = trained(neighbors=SameLabel(points.labels))
    for batch in chain(*seen[1:]):
        assert (points.labels[batch.targets.neighbors] == batch.targets.labels[:, None]).all()
        assert (batch.targets.neighbors != batch.targets.indices[:, None]).all()
        assert_mixed_as_told(batch)
    assert loader.history[-1]["same_label_share"] == 1
    again = trained(neighbors=SameLabel(points.labels))[1]
    for batch, same in zip(chain(*seen), chain(*again), strict=True):
        assert torch.equal(batch.inputs, same.inputs), "the draws follow from the seed"


@pytest.mark.parametrize("scan", ["epoch", "running"])
def test_the_farthest_in_the_batch(scan: str) -> None:
    _, seen = trained(neighbors=Farthest(), scan=scan)
    for batch in chain(*seen[1:]):
        assert batch.targets.neighbors.shape == (8, K)
        for row in batch.targets.neighbors.tolist():
            assert set(row) <= set(batch.targets.indices.tolist())
        assert_mixed_as_told(batch)


@pytest.mark.parametrize("scan", ["epoch", "running"])
def test_neighbors_by_angle(scan: str) -> None:
    loader, seen = trained(neighbors=Cosine(), scan=scan)
    assert loader.history[-1]["search"] == "cosine"
    assert (loader.neighbor_indices >= 0).all()
    for batch in seen[-1]:
        assert torch.equal(batch.targets.neighbors, loader.neighbor_indices[batch.targets.indices])
        assert_mixed_as_told(batch)


def test_only_the_likely_are_trusted() -> None:
    loader, seen = trained(weighting=only_the_likely)
    for batch in seen[-1]:
        credible = loader.clean_probability[batch.targets.groups] > 0.5
        nobody = ~credible.any(dim=1)
        assert torch.equal(batch.targets.weights[~nobody] > 0, credible[~nobody])
        assert (batch.targets.weights[nobody, 0] == 1).all()
        assert_mixed_as_told(batch)


def test_credibility_by_rank() -> None:
    loader, _ = trained(credibility=Ranks(), scan_every=2)
    order = loader.losses.argsort()
    assert (loader.clean_probability[order].diff() < 0).all()
    assert [record["scan"] for record in loader.history] == [None, "epoch", None, "epoch", None]
    assert loader.history[1]["means"] is None
    assert loader.history[1]["noise_rate"] == pytest.approx(0.5, abs=0.05)


def test_all_of_them_together() -> None:
    loader, seen = trained(neighbors=Cosine(), weighting=only_the_likely, credibility=Ranks())
    assert len(seen[-1]) == 5
    assert "Cosine" in repr(loader)


class Half:
    """Has but one of the methods."""

    def draw(self) -> None: ...


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("neighbors", Half(), r"neighbors must be .* which has no sees, pool_size, search, pair; derive"),
        ("neighbors", 3, "neighbors must be"),
        ("neighbors", Cosine, "neighbors must be a name or an object, got the class Cosine: call it first"),
        ("weighting", 0.5, "weighting must be"),
        ("weighting", Ranks, "weighting must be .* got the class Ranks: call it first"),
        ("credibility", Half(), "credibility must be"),
        ("credibility", Ranks, "credibility must be"),
        ("search", 7, "search must be"),
    ],
)
def test_objects_of_another_kind_are_named(argument: str, value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        MixNNDataLoader(Points(), mlp(), **{argument: value})


@pytest.mark.parametrize("argument", ["neighbors", "weighting", "credibility", "scan", "search"])
def test_names_stay_names(argument: str) -> None:
    names: dict[str, Any] = {
        "neighbors": "batch",
        "weighting": "beta",
        "credibility": "agreement",
        "scan": "running",
        "search": "exact",
    }
    assert f"{argument}={names[argument]!r}" in repr(MixNNDataLoader(Points(), mlp(), **{argument: names[argument]}))
    with pytest.raises(ValueError, match=rf"{argument} must be .*'something else'"):
        MixNNDataLoader(Points(), mlp(), **dict[str, Any]({argument: "something else"}))


MAKE: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "all": lambda: {
        "neighbors": Cosine(),
        "weighting": only_the_likely,
        "credibility": Ranks(),
        "num_neighbors": 3,
        "momentum": 0.5,
        "epochs": 100,
        "correct_neighbors": False,
    },
    "no correction": lambda: {"correction_epoch": None, "neighbor_pool": 7},
}


@pytest.mark.parametrize("kind", MAKE)
def test_a_loader_in_words_is_one_line(kind: str) -> None:
    text = repr(MixNNDataLoader(Points(), mlp(), batch_size=8, **MAKE[kind]()))
    assert "\n" not in text
    assert " at 0x" not in text
    assert text.startswith("MixNNDataLoader(5 batches of Points (40 samples), MLP; epoch 0, warm-up; warm-up ")
    if kind == "plain":
        assert text.endswith("; warm-up 10, correction from epoch 60)")
    if kind == "no correction":
        assert text.endswith("; warm-up 10, correction from no epoch; correction_epoch=None; neighbor_pool=7)")


class Returning(Credibility):
    """Says the same of everybody."""

    def __init__(self, value: float) -> None:
        self.value = value

    def estimate(self, evidence: Evidence, warn: Any) -> Estimate:
        del warn
        return Estimate(torch.full_like(evidence.losses, self.value), None)


@pytest.mark.parametrize("asks_model", [False, True])
def test_voters_that_say_nothing_likely_correct_by_averages_or_are_refused(asks_model: bool) -> None:
    class Voting(Returning):
        uses_votes, uses_averages = True, asks_model

    arguments: dict[str, Any] = {"credibility": Voting(-3.0), "correct_by": "credibility", "correction_epoch": 1}
    if asks_model:
        loader, _ = trained(3, **arguments)
        assert not torch.equal(loader.soft_targets, loader.soft_targets.round())
        return
    with pytest.raises(ValueError, match=r"towards what is likely, and .* gives none.*uses_averages = True"):
        trained(1, **arguments)


@pytest.mark.parametrize("value", [0.25, torch.nan])
def test_probabilities_in_place_of_their_logarithms_are_refused(value: float) -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8, credibility=Returning(value))
    with pytest.raises(ValueError, match=r"credibility= must return log P\(clean\), at most 0 .* the logarithm"):
        next(iter(loader))


@pytest.mark.filterwarnings("ignore:1 of 40 samples have a NaN")
def test_a_sample_that_is_not_finite_is_not_mixed_whatever_the_estimate_says() -> None:
    points = Points()
    points.inputs[3] = torch.nan
    loader = MixNNDataLoader(
        points, mlp(), batch_size=8, warmup_epochs=0, num_neighbors=3, neighbors="random", credibility=Returning(0.0)
    )
    for inputs, targets in loader:
        assert inputs[targets.indices != 3].isfinite().all()


class Remembering(Cosine):
    """Keeps how many rows it was asked to search."""

    def __init__(self) -> None:
        super().__init__()
        self.searched: list[int] = []

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Any:
        self.searched.append(len(representations))
        return super().search(representations, k, queries)


def test_what_is_tried_on_the_first_batch_leaves_no_trace_in_the_users_object() -> None:
    source = Remembering()
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8, warmup_epochs=1, neighbors=source)
    for _ in range(2):
        list(loader)
    assert source.searched == [40]
