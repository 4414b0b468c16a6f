"""Which epochs scan and search, and what stays as it is in between."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from toy import NUM_CLASSES, NUM_FEATURES, Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss
from mixnn_loader.neighbors import ExactSearch

WARMUP = 2
PAST_WARMUP = 7


class CountedSearch:
    """Exact search that counts how often it is asked."""

    def __init__(self) -> None:
        self.count = 0

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Tensor:
        self.count += queries is None
        return ExactSearch().search(representations, k, queries)


def estimates(loader: MixNNDataLoader) -> dict[str, Tensor]:
    return {
        "losses": loader.losses.clone(),
        "clean_probability": loader.clean_probability.clone(),
        "neighbor_indices": loader.neighbor_indices.clone(),
    }


def train(**arguments: Any) -> tuple[MixNNDataLoader, list[dict[str, Tensor]]]:
    """Train a model that changes a lot; the loader, and what it knew in each epoch past warm-up, once it started."""
    model, found = mlp(), []
    loader = MixNNDataLoader(
        Points(60), model, batch_size=20, num_neighbors=3, warmup_epochs=WARMUP, correction_epoch=4, **arguments
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    torch.manual_seed(0)  # of the dropout
    for epoch in range(WARMUP + PAST_WARMUP):
        for place, batch in enumerate(loader):
            if place == 0 and epoch >= WARMUP:
                found.append(estimates(loader))
            loss = MixNNLoss()(model(batch.inputs), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loader, found


def due(scan_every: int | None, otherwise: int) -> list[bool]:
    """Whether something is done, of each epoch past warm-up; ``otherwise``: every how many without `scan_every`."""
    return [epoch % (scan_every or otherwise) == 0 for epoch in range(PAST_WARMUP)]


ONCE = 1000
SCHEDULES = pytest.mark.parametrize(
    ("arguments", "scanned", "searched"),
    [
        ({}, due(None, 1), due(None, 1)),
        ({"scan_every": 1}, due(1, 1), due(1, 1)),
        ({"scan_every": 2}, due(2, 1), due(2, 1)),
        ({"scan_every": 3}, due(3, 1), due(3, 1)),
        ({"scan": "running"}, due(None, ONCE), due(None, 1)),
        ({"scan": "running", "scan_every": 1}, due(1, ONCE), due(1, 1)),
        ({"scan": "running", "scan_every": 2}, due(2, ONCE), due(2, 1)),
        ({"scan": "running", "scan_every": 3}, due(3, ONCE), due(3, 1)),
    ],
    ids=str,
)


@SCHEDULES
def test_the_history_says_which_epochs_scan_and_search(
    arguments: dict[str, Any], scanned: list[bool], searched: list[bool]
) -> None:
    search = CountedSearch()
    loader, _ = train(search=search, **arguments)

    assert all(record["scan"] is record["search"] is None for record in loader.history[:WARMUP])
    records = loader.history[WARMUP:]
    between = arguments.get("scan")
    assert [record["scan"] for record in records] == ["epoch" if scans else between for scans in scanned]
    assert [record["search"] for record in records] == ["CountedSearch" if searches else None for searches in searched]
    assert search.count == sum(searched)
    estimated = [scans or between == "running" for scans in scanned]
    for entry in ("noise_rate", "means", "variances", "priors", "scan_seconds", "mixture_seconds"):
        assert [record[entry] is not None for record in records] == estimated


@SCHEDULES
def test_neighbors_change_where_they_are_searched_and_p_where_it_is_estimated(
    arguments: dict[str, Any], scanned: list[bool], searched: list[bool]
) -> None:
    _, found = train(**arguments)

    def changes(name: str) -> list[bool]:
        return [not torch.equal(before[name], after[name]) for before, after in pairwise(found)]

    running = arguments.get("scan") == "running"
    assert changes("neighbor_indices") == searched[1:]
    assert changes("clean_probability") == [scans or running for scans in scanned[1:]]
    assert changes("losses") == [scans or running for scans in scanned[1:]]


def test_scanning_in_every_epoch_is_the_default() -> None:
    (_, default), (_, explicit) = train(), train(scan_every=1)
    for estimate, same in zip(default, explicit, strict=True):
        torch.testing.assert_close(estimate, same, rtol=0, atol=0)


@pytest.mark.parametrize("neighbors", ["batch", "random", "random-batch"])
@pytest.mark.parametrize("scan", ["epoch", "running"])
def test_other_sources_of_neighbors_never_search(neighbors: Any, scan: Any) -> None:
    loader, found = train(neighbors=neighbors, scan=scan)
    assert all(record["search"] is None for record in loader.history)
    assert (found[-1]["neighbor_indices"] == -1).all()


@pytest.mark.parametrize("arguments", [{"scan": "running"}, {"scan_every": 3}, {"scan": "running", "scan_every": 3}])
def test_a_run_that_starts_past_its_first_scan_scans_anyway(arguments: dict[str, Any]) -> None:
    loader = MixNNDataLoader(Points(), mlp(), warmup_epochs=1, batch_size=8, search="exact", **arguments)
    loader.set_epoch(3)
    for _ in range(2):
        list(loader)
    first, second = loader.history
    assert (first["epoch"], first["scan"], first["search"]) == (3, "epoch", "ExactSearch")
    assert second["scan"] == ("epoch" if arguments.get("scan_every") else "running")
    assert first["search_recall"] == 1


@pytest.mark.parametrize("arguments", [{"scan": "running"}, {"scan_every": 3}, {"scan": "running", "scan_every": 3}])
def test_a_state_without_neighbors_is_searched_at_once(arguments: dict[str, Any]) -> None:
    def make(**arguments: Any) -> MixNNDataLoader:
        return MixNNDataLoader(Points(), mlp(), warmup_epochs=0, num_neighbors=2, batch_size=8, **arguments)

    in_batch, in_dataset = make(neighbors="batch", scan="running"), make(search="exact", **arguments)
    list(in_batch)
    in_dataset.load_state_dict(in_batch.state_dict())

    for inputs, targets in in_dataset:
        assert ((targets.neighbors >= 0) & (targets.neighbors != targets.indices.unsqueeze(1))).all()
        members = torch.cat([targets.indices.unsqueeze(1), targets.neighbors], dim=1)
        torch.testing.assert_close(inputs, (targets.weights.unsqueeze(-1) * Points().inputs[members]).sum(1))
    record = in_dataset.history[-1]
    assert (record["epoch"], record["scan"], record["search"]) == (1, "epoch", "ExactSearch")


@pytest.mark.parametrize("seen_in_warm_up", [False, True])
def test_what_a_sampler_draws_only_later_counts_once_it_was_met(seen_in_warm_up: bool) -> None:
    sampler = torch.utils.data.SubsetRandomSampler(range(40))
    warmup_epochs = int(seen_in_warm_up)
    loader = MixNNDataLoader(
        Points(), mlp(), batch_size=8, sampler=sampler, scan="running", warmup_epochs=warmup_epochs
    )
    for _ in range(warmup_epochs):
        list(loader)
    sampler.indices = range(30)
    list(loader)
    sampler.indices = range(40)
    list(loader)
    assert loader.clean_probability[:30].isfinite().all()
    assert loader.clean_probability[30:].isnan().all()
    list(loader)
    assert loader.clean_probability.isfinite().all()
    assert ((loader.neighbor_indices >= 0) & (loader.neighbor_indices < 40)).all()
    assert (loader.neighbor_indices.flatten() != torch.arange(40)).all()


def test_a_sampler_that_turns_to_samples_never_met_is_scanned() -> None:
    sampler = torch.utils.data.SubsetRandomSampler(range(20))
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8, sampler=sampler, scan="running", warmup_epochs=0)
    for _ in range(2):
        list(loader)
    sampler.indices = range(20, 40)
    list(loader)
    assert [record["scan"] for record in loader.history] == ["epoch", "running", "epoch"]
    assert loader.clean_probability[20:].isfinite().all()
    assert (loader.neighbor_indices[20:] >= 20).all()


def test_a_state_without_representations_is_scanned_before_it_goes_on_without_scans() -> None:
    def make(scan: Any) -> MixNNDataLoader:
        return MixNNDataLoader(Points(), mlp(), warmup_epochs=0, batch_size=8, drop_last=True, scan=scan)

    scanned, running = make("epoch"), make("running")
    list(scanned)
    running.load_state_dict(scanned.state_dict())
    for _ in range(2):
        list(running)
    assert [record["scan"] for record in running.history] == ["epoch", "epoch", "running"]
    assert torch.equal(running.neighbor_indices, scanned.neighbor_indices)


def test_representations_of_a_state_that_are_not_needed_are_not_searched() -> None:
    def make(neighbors: Any) -> MixNNDataLoader:
        return MixNNDataLoader(Points(), mlp(), warmup_epochs=0, batch_size=8, scan="running", neighbors=neighbors)

    in_dataset, in_batch = make("dataset"), make("batch")
    list(in_dataset)
    assert in_dataset.state_dict()["samples"]["representations"] is not None
    in_batch.load_state_dict(in_dataset.state_dict())
    list(in_batch)
    assert in_batch.history[-1]["search"] is None
    assert in_batch.state_dict()["samples"]["representations"] is None


def test_representations_of_a_later_epoch_do_not_outlive_a_rollback() -> None:
    loader = MixNNDataLoader(Points(), mlp(), warmup_epochs=0, batch_size=8, scan="running")
    start = loader.state_dict()
    list(loader)
    loader.load_state_dict(start)
    assert loader.state_dict()["samples"]["representations"] is None


@pytest.mark.filterwarnings("ignore:epoch 0 is one of warm-up")
def test_votes_are_asked_as_soon_as_somebody_can_be() -> None:
    """The first epoch knows of no sample: whom a batch sampler of one's own draws shows when it is over."""

    class Batches:
        def __iter__(self) -> Iterator[list[int]]:
            return iter(torch.randperm(60).view(3, 20).tolist())

        def __len__(self) -> int:
            return 3

    model = mlp()
    loader = MixNNDataLoader(
        DataLoader(Points(60), batch_sampler=Batches()),
        model,
        warmup_epochs=0,
        scan="training",
        scan_every=3,
        credibility="vote",
        neighbors="random-batch",
    )
    for _ in range(3):
        for batch in loader:
            MixNNLoss()(model(batch.inputs), batch)
    assert [record["scan"] for record in loader.history] == [None, "epoch", None]
    assert not loader.clean_probability.isnan().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_representation_of_zeros_or_a_large_one_spoils_no_vote(dtype: torch.dtype) -> None:
    points = Points(200)
    points.labels = points.true_labels
    points.inputs[7], points.inputs[8] = 0, points.inputs[8] * 8_000  # of finite numbers; its length is not, in half
    model = nn.Sequential(nn.Identity(), nn.Linear(NUM_FEATURES, NUM_CLASSES, bias=False))
    loader = MixNNDataLoader(points, model, batch_size=20, representation_dtype=dtype)
    for batch in loader:
        MixNNLoss()(model(batch.inputs), batch)
    report = loader.label_report()
    assert report.wrong_labels < 10
    assert len(report.issues()) < 10
