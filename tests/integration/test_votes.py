"""Neighbors that vote on labels, against NumPy; when they are asked, and by several processes."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from integration.reference import Floats, Integers
from posterior_reference import corrected, label_posterior
from torch.utils.data import RandomSampler
from toy import MLP, NUM_CLASSES, Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss
from mixnn_loader.method.credibility import VoteCredibility
from mixnn_loader.method.votes import num_voters, vote_shares

K = 3
ARGUMENTS: dict[str, Any] = {
    "warmup_epochs": 1,
    "correction_epoch": 3,
    "scan": "training",
    "scan_every": 2,
    "neighbors": "random-batch",
    "weighting": "mixup",
    "credibility": VoteCredibility(K),
    "correct_by": "credibility",
}


def shares(directions: Floats, labels: Integers, k: int) -> Floats:
    """Of each row: how frequent labels are among its k nearest by angle; rows sum to one."""
    counts = np.zeros((len(labels), NUM_CLASSES))
    for i, own in enumerate(directions):
        nearest = sorted((j for j in range(len(labels)) if j != i), key=lambda j: -float(own @ directions[j]))
        for j in nearest[:k]:
            counts[i, labels[j]] += 1
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def representations(model: MLP, points: Points) -> Floats:
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        rows = model.body(points.inputs).double().numpy()
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12))


@pytest.mark.parametrize(
    "changes",
    [{}, {"epochs": 6}, {"scan": "running", "scan_every": 2}, {"scan": "epoch", "scan_every": None, "epochs": 6}],
)
def test_p_and_targets_are_what_the_neighbors_say(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    points, model = Points(60), mlp()
    loader = MixNNDataLoader(points, model, batch_size=16, shuffle=True, num_classes=NUM_CLASSES, **ARGUMENTS | changes)
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.1), MixNNLoss()
    labels, everyone = points.labels.numpy(), np.arange(60)
    votes: Floats | None = None
    for epoch in range(6):
        scans = epoch >= 1 and (loader_scans_always(changes) or epoch % 2 == 1)
        if scans:
            votes = shares(representations(model, points), labels, K)
        targets_before = loader.soft_targets.clone()
        for place, (inputs, targets) in enumerate(loader):
            if place == 0 and votes is not None:
                posterior = label_posterior(votes, labels)[0]
                np.testing.assert_allclose(loader.clean_probability, posterior[everyone, labels], atol=1e-4)
                expected = corrected(votes, labels, (epoch - 1) / 15)
                if epoch >= 3 and scans:
                    np.testing.assert_allclose(loader.soft_targets, expected, atol=1e-4)
                    assert np.abs(expected[everyone, labels] - 1).max() > 0.1
                elif epoch > 0:
                    assert torch.equal(loader.soft_targets, targets_before)
            loss = criterion(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    record = loader.history[1]
    assert (record["search"], record["search_recall"]) == ("ExactSearch", 1.0)
    assert 0 < record["noise_rate"] < 1
    assert (loader.history[2]["noise_rate"] is not None) == loader_scans_always(changes)
    assert (loader.neighbor_indices == -1).all()


def loader_scans_always(changes: dict[str, Any]) -> bool:
    return changes.get("scan") == "epoch"


def test_running_representations_are_asked_in_every_epoch() -> None:
    torch.manual_seed(0)
    model = mlp()
    changes = {"scan": "running", "scan_every": None}
    loader = MixNNDataLoader(Points(60), model, batch_size=16, shuffle=True, **ARGUMENTS | changes)
    optimizer, criterion, seen = torch.optim.SGD(model.parameters(), lr=0.3), MixNNLoss(), []
    for _ in range(4):
        for inputs, targets in loader:
            loss = criterion(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seen.append(loader.clean_probability.clone())
    assert [record["search"] for record in loader.history] == [None, *["ExactSearch"] * 3]
    assert not torch.equal(seen[2], seen[3])


def test_who_is_no_member_is_not_asked() -> None:
    points = Points(60)
    points.inputs[::2] = points.inputs[1].clone()
    odd = torch.arange(1, 60, 2)
    sampler = torch.utils.data.SubsetRandomSampler(odd.tolist())
    changes: dict[str, Any] = {"warmup_epochs": 0, "scan": "epoch", "scan_every": None, "correction_epoch": None}
    model = mlp()
    loader = MixNNDataLoader(points, model, batch_size=16, sampler=sampler, **ARGUMENTS | changes)
    rows, labels = representations(model, points)[odd.numpy()], points.labels[odd].numpy()
    next(iter(loader))
    votes = shares(rows, labels, K)
    expected, *_ = label_posterior(votes, labels)
    np.testing.assert_allclose(loader.clean_probability[odd], expected[np.arange(30), labels], atol=1e-4)
    assert loader.clean_probability[::2].isnan().all()


@pytest.mark.filterwarnings("ignore:1 of 60 samples have a NaN")
def test_nobody_is_asked_of_a_sample_that_is_not_finite() -> None:
    points, model = Points(60), mlp()
    points.inputs[3] = torch.nan
    loader = MixNNDataLoader(points, model, batch_size=16, **ARGUMENTS | {"warmup_epochs": 0, "correction_epoch": 0})
    next(iter(loader))
    others = np.delete(np.arange(60), 3)
    labels = points.labels.numpy()[others]
    expected, *_ = label_posterior(shares(representations(model, points)[others], labels, K), labels)
    np.testing.assert_allclose(loader.clean_probability[others], expected[np.arange(59), labels], atol=1e-4)
    assert loader.clean_probability[3] == 0
    assert loader.soft_targets.isfinite().all()
    assert loader.soft_targets[3].tolist() == [float(c == points.labels[3]) for c in range(NUM_CLASSES)]


@pytest.mark.parametrize("num_samples", [2, 3, 60])
def test_there_may_be_fewer_than_the_neighbors_asked_for(num_samples: int) -> None:
    points = Points(num_samples)
    changes: dict[str, Any] = {"warmup_epochs": 0, "credibility": VoteCredibility(200), "num_classes": NUM_CLASSES}
    loader = MixNNDataLoader(points, mlp(), batch_size=2, **ARGUMENTS | changes)
    next(iter(loader))
    assert loader.clean_probability.isfinite().all()


def test_shares_are_of_the_neighbors() -> None:
    neighbors = torch.tensor([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    found = vote_shares(neighbors, torch.tensor([0, 0, 0, 1]), 3)
    expected = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [3.0, 0.0, 0.0]]) / 3
    torch.testing.assert_close(found, expected)


def test_a_sample_does_not_vote_for_itself() -> None:
    found = vote_shares(torch.tensor([[1], [2], [1]]), torch.tensor([0, 1, 2]), 3)
    assert torch.equal(found.argmax(dim=1), torch.tensor([1, 2, 1]))


@pytest.mark.parametrize(
    ("num_samples", "num_classes", "k"), [(50_000, 10, 200), (1_000, 10, 40), (60, 10, 10), (5, 2, 4)]
)
def test_fewer_are_asked_where_classes_are_small(num_samples: int, num_classes: int, k: int) -> None:
    assert num_voters(num_samples, num_classes) == k
    assert VoteCredibility().num_voters(num_samples, num_classes) == k
    assert VoteCredibility(3).num_voters(num_samples, num_classes) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_neighbors": 0}, "num_neighbors must be None or an integer >= 1"),
        ({"blame_labels": 1.5}, r"blame_labels must be a number in \[0, 1\]"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VoteCredibility(**arguments)


def test_without_scans_nobody_could_be_asked() -> None:
    with pytest.raises(
        ValueError, match=r"scan_every must be an integer >= 1 with scan='training'.*asked in the epochs"
    ):
        MixNNDataLoader(Points(), mlp(), **ARGUMENTS | {"scan_every": None})


def test_a_resumed_run_goes_on_with_what_was_said() -> None:
    def make(model: MLP) -> MixNNDataLoader:
        points = Points(60)
        sampler = RandomSampler(points, generator=torch.Generator().manual_seed(1))
        return MixNNDataLoader(points, model, batch_size=16, sampler=sampler, **ARGUMENTS)

    def run(loader: MixNNDataLoader, model: MLP, epochs: int) -> list[float]:
        optimizer, criterion, losses = torch.optim.SGD(model.parameters(), lr=0.1), MixNNLoss(), []
        for _ in range(epochs):
            for inputs, targets in loader:
                loss = criterion(model(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        return losses

    torch.manual_seed(0)
    model = mlp()
    whole = run(make(model), model, 6)
    torch.manual_seed(0)
    model = mlp()
    loader = make(model)
    losses = run(loader, model, 4)
    state = copy.deepcopy((loader.state_dict(), model.state_dict()))
    random_state = torch.get_rng_state()
    model = mlp(seed=1)
    loader = make(model)
    loader.load_state_dict(state[0])
    model.load_state_dict(state[1])
    torch.set_rng_state(random_state)
    assert losses + run(loader, model, 2) == whole


def test_the_search_of_those_who_vote_can_be_chosen() -> None:
    loader = MixNNDataLoader(Points(60), mlp(), batch_size=16, search="cells", **ARGUMENTS | {"warmup_epochs": 0})
    list(loader)
    assert loader.history[0]["search"] is not None
    with pytest.raises(ValueError, match="search must be"):
        MixNNDataLoader(Points(60), mlp(), search="nearest", **ARGUMENTS)


def test_a_model_without_a_classifier_is_found_out_in_the_first_batch() -> None:
    model = torch.nn.Sequential(torch.nn.Unflatten(1, (6, 1)), torch.nn.Conv1d(6, 3, 1), torch.nn.Flatten())
    loader = MixNNDataLoader(Points(60), model, batch_size=16, **ARGUMENTS)
    with pytest.raises(ValueError, match="feature_layer"):
        next(iter(loader))
