"""The ranges of the hyper-parameters, and what follows from them."""

from typing import Any

import numpy as np
import pytest
from toy_settings import settings

from mixnn_loader._utils.checks import check_count
from mixnn_loader.method.credibility import MixtureCredibility
from mixnn_loader.method.weights import UniformWeights
from mixnn_loader.neighbors import NearestInBatch, NearestInDataset


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neighbors": "batch", "search": "exact"}, "search must be 'auto' with neighbors='batch', got 'exact'"),
        ({"num_neighbors": -1}, "num_neighbors must be an integer >= 0, got -1"),
        ({"num_neighbors": 1.0}, "num_neighbors must be an integer >= 0, got 1.0"),
        ({"num_neighbors": True}, "num_neighbors must be an integer >= 0, got True"),
        ({"warmup_epochs": -3}, "warmup_epochs must be 'auto', 'settled' or an integer >= 0, got -3"),
        ({"warmup_epochs": None}, "warmup_epochs must be 'auto', 'settled' or an integer >= 0, got None"),
        ({"correction_epoch": -1}, "correction_epoch must be 'auto', None or an integer >= 0, got -1"),
        ({"correction_epoch": "60"}, "correction_epoch must be 'auto', None or an integer >= 0, got '60'"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"momentum": -0.1}, "momentum must be a number in [0, 1], got -0.1"),
        ({"momentum": 1.5}, "momentum must be a number in [0, 1], got 1.5"),
        ({"momentum": float("nan")}, "momentum must be a number in [0, 1], got nan"),
        ({"momentum": None}, "momentum must be a number in [0, 1], got None"),
        (
            {"neighbors": "nearest"},
            "neighbors must be one of 'dataset', 'batch', 'random', 'random-batch', got 'nearest'",
        ),
        (
            {"weighting": "even"},
            "weighting must be one of 'mixture', 'doubt', 'uniform', 'beta', 'mixup', 'doubt-mixup', got 'even'",
        ),
        ({"epochs": 0}, "epochs must be None or an integer >= 1, got 0"),
        ({"epoch_length": 1.5}, "epoch_length must be None or an integer >= 1, got 1.5"),
        ({"correct_neighbors": 1}, "correct_neighbors must be True or False, got 1"),
        ({"neighbor_pool": 2.5}, "neighbor_pool must be None or an integer >= 0, got 2.5"),
        ({"num_neighbors": 3, "neighbor_pool": 2}, "neighbor_pool must be None or >= num_neighbors (3), got 2"),
        ({"num_neighbors": 2, "neighbor_pool": 0}, "neighbor_pool must be None or >= num_neighbors (2), got 0"),
        (
            {"epochs": 20, "correction_epoch": np.int64(20)},
            "correction_epoch must be None, or smaller than epochs (20), got 20",
        ),
        ({"epochs": 5, "warmup_epochs": 5}, "warmup_epochs must be smaller than epochs (5), got 5"),
        ({"neighbors": "batch", "neighbor_pool": 5}, "neighbor_pool must be None with neighbors='batch', got 5"),
        ({"early_learning": -1.0}, "early_learning must be a number >= 0, got -1.0"),
        ({"early_learning": float("inf")}, "early_learning must be a number >= 0, got inf"),
        ({"early_learning": True}, "early_learning must be a number >= 0, got True"),
        ({"prediction_momentum": 1.1}, "prediction_momentum must be a number in [0, 1], got 1.1"),
        ({"scan": "never"}, "scan must be one of 'epoch', 'running', 'training', got 'never'"),
        ({"scan_every": 0}, "scan_every must be None or an integer >= 1, got 0"),
        ({"scan_every": 2.0}, "scan_every must be None or an integer >= 1, got 2.0"),
        ({"scan_every": True}, "scan_every must be None or an integer >= 1, got True"),
    ],
)
def test_an_argument_outside_its_range_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=next(reversed(changes))) as caught:
        settings(**changes)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_neighbors": 0, "warmup_epochs": 0, "correction_epoch": 0, "momentum": 0},
        {"momentum": 1, "correction_epoch": None, "seed": 2**40},
        {"num_neighbors": 3, "neighbor_pool": 3},
        {"scan": "running", "scan_every": 1},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(changes: dict[str, Any]) -> None:
    made = settings(**changes)
    assert all(getattr(made, name) == value for name, value in changes.items())


def test_a_count_of_any_name_is_checked() -> None:
    check_count("epoch", 0)
    with pytest.raises(ValueError, match="epoch must be an integer >= 0, got -2"):
        check_count("epoch", -2)


@pytest.mark.parametrize(
    ("warmup_epochs", "correction_epoch", "phases"),
    [
        (2, 4, ["warm-up", "warm-up", "mixing", "mixing", "correction", "correction"]),
        (2, None, ["warm-up", "warm-up", "mixing", "mixing", "mixing", "mixing"]),
        (0, 0, ["correction"] * 6),
        (0, 1, ["mixing", *["correction"] * 5]),
        (4, 2, [*["warm-up"] * 4, "correction", "correction"]),
    ],
)
def test_phases(warmup_epochs: int, correction_epoch: int | None, phases: list[str]) -> None:
    made = settings(warmup_epochs=warmup_epochs, correction_epoch=correction_epoch)
    assert [made.phase(epoch, warmup_epochs) for epoch in range(6)] == phases


@pytest.mark.parametrize(
    ("changes", "sees", "pool_size"),
    [
        ({"neighbors": "dataset"}, "dataset", 1),
        ({"neighbors": "dataset", "neighbor_pool": 4}, "dataset", 4),
        ({"neighbors": "batch"}, "batch", 0),
        ({"neighbors": "random"}, "nothing", 0),
        ({"neighbors": "random-batch"}, "nothing", 0),
        *(
            ({"neighbors": source, "num_neighbors": 0}, "nothing", 0)
            for source in ("dataset", "batch", "random", "random-batch")
        ),
    ],
)
def test_what_a_source_of_neighbors_needs(changes: dict[str, Any], sees: str, pool_size: int) -> None:
    made = settings(**changes)
    assert made.source.sees == sees
    assert made.pool_size == pool_size


@pytest.mark.parametrize(
    ("epochs", "warmup", "correction"),
    [(None, 10, 60), (300, 10, 60), (100, 3, 20), (10, 1, 2), (1, 0, 0), (20, 1, 4)],
)
def test_the_papers_proportions(epochs: int | None, warmup: int, correction: int) -> None:
    made = settings(epochs=epochs, warmup_epochs="auto", correction_epoch="auto")
    assert (made.longest_warmup, made.correction) == (warmup, correction)


def test_what_is_said_counts_more_than_the_proportions() -> None:
    made = settings(epochs=100, warmup_epochs=7, correction_epoch=None)
    assert (made.longest_warmup, made.correction) == (7, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neighbors": NearestInBatch}, "neighbors must be a name or an object, got the class NearestInBatch"),
        ({"neighbors": 3}, "neighbors must be one of 'dataset', .* got 3, which has no sees, pool_size"),
        ({"weighting": None}, "weighting must be one of 'mixture', .* or a function .*, got None"),
        ({"weighting": UniformWeights}, "weighting must be .* got the class UniformWeights: call it first"),
        (
            {"credibility": None},
            "credibility must be one of 'mixture', .*, 'vote-and-model' or an object with .*, got None",
        ),
        ({"credibility": MixtureCredibility}, "credibility must be one of"),
    ],
)
def test_an_object_that_is_none_of_the_protocol_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        settings(**changes)


def test_objects_take_their_own_arguments() -> None:
    for changes, name in (
        ({"neighbors": NearestInDataset(), "neighbor_pool": 5}, "neighbor_pool"),
        ({"neighbors": NearestInDataset(), "search": "exact"}, "search"),
    ):
        with pytest.raises(ValueError, match=f"{name} must be .* with"):
            settings(**changes)


@pytest.mark.parametrize(
    ("num_neighbors", "neighbor_pool", "pool_size", "name"),
    [(2, None, 2, "num_neighbors"), (2, 7, 7, "neighbor_pool")],
)
def test_a_dataset_must_be_larger_than_the_pool(
    num_neighbors: int, neighbor_pool: int | None, pool_size: int, name: str
) -> None:
    made = settings(num_neighbors=num_neighbors, neighbor_pool=neighbor_pool)
    assert made.pool_size == pool_size
    made.check_members(pool_size + 1)
    with pytest.raises(ValueError, match=rf"{name} must be smaller than .* \({pool_size}\), got {pool_size}"):
        made.check_members(pool_size)


@pytest.mark.parametrize(
    ("changes", "scanning"),
    [
        ({}, [3, 4, 5, 6, 7, 8, 9, 10]),
        ({"scan_every": 1}, [3, 4, 5, 6, 7, 8, 9, 10]),
        ({"scan_every": 2}, [3, 5, 7, 9]),
        ({"scan_every": 3}, [3, 6, 9]),
        ({"scan_every": 100}, [3]),
        ({"scan": "running"}, [3]),
        ({"scan": "running", "scan_every": 1}, [3, 4, 5, 6, 7, 8, 9, 10]),
        ({"scan": "running", "scan_every": 4}, [3, 7]),
    ],
)
def test_which_epochs_scan(changes: dict[str, Any], scanning: list[int]) -> None:
    made = settings(warmup_epochs=3, **changes)
    assert [epoch for epoch in range(3, 11) if made.scans(epoch, 3)] == scanning


@pytest.mark.parametrize(
    ("changes", "scans_again"),
    [
        ({}, True),
        ({"scan_every": 5}, True),
        ({"scan": "running"}, False),
        ({"scan": "running", "scan_every": 5}, True),
    ],
)
def test_whether_there_is_another_scan(changes: dict[str, Any], scans_again: bool) -> None:
    assert settings(**changes).scans_again is scans_again


@pytest.mark.parametrize(
    ("changes", "keeps"),
    [
        ({}, False),
        ({"scan": "running"}, True),
        ({"scan": "running", "num_neighbors": 0}, False),
        ({"scan": "running", "neighbors": "batch"}, False),
        ({"scan": "running", "neighbors": "random"}, False),
        ({"scan": "running", "scan_every": 2}, False),
    ],
)
def test_representations_are_kept_for_a_search_without_a_scan(changes: dict[str, Any], keeps: bool) -> None:
    assert settings(**changes).keeps_representations is keeps


def test_progress_grows_from_the_end_of_warm_up_to_that_of_the_training() -> None:
    made = settings(epochs=30, warmup_epochs=10, correction_epoch=20)
    assert [made.progress(epoch, 10) for epoch in (0, 10, 15, 29, 30, 99)] == [0, 0, 0.25, 0.95, 1, 1]
    assert settings(epochs=1, warmup_epochs=0, correction_epoch=0).progress(0, 0) == 0


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_a_short_training_makes_the_progress_of_a_longer_one_in_as_many_epochs(warmup: int) -> None:
    def progress(length: int | None) -> list[float]:
        epochs = None if length is None else warmup + length
        made = settings(epochs=epochs, warmup_epochs=warmup, correction_epoch=warmup)
        return [made.progress(epoch, warmup) for epoch in range(warmup + 20)]

    assert progress(15)[warmup:] == [min(epoch / 15, 1) for epoch in range(20)]
    assert all(progress(length) == progress(15) for length in range(1, 15))
    assert progress(None) == progress(15), "of a training whose end is not known"
    assert progress(16)[warmup + 1] == 1 / 16
