"""The pass over the data: its random transforms and its workers."""

import multiprocessing
import os
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from toy import NUM_CLASSES, NUM_FEATURES, Points, mlp, tensors_of

from mixnn_loader import MixNNBatch, MixNNDataLoader
from mixnn_loader._utils.random_state import forked_random_state

N = 20
NUM_DRAWS = 3
RUN: dict[str, Any] = {"warmup_epochs": 1, "correction_epoch": None, "num_neighbors": 1}


class Augmented(Dataset[Any]):
    """Points whose features are shifted by draws from the three global streams; the last tells the process."""

    def __init__(self) -> None:
        self.points = Points(N)

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        inputs, label = self.points[index]
        draws = torch.tensor([torch.rand(()).item(), random.random(), np.random.rand()])
        return torch.cat([inputs + draws.sum(), draws, torch.tensor([float(os.getpid())])]), label


class Recorder(nn.Module):
    """The small network on the shifted features; keeps what it is asked about in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()
        self.asked: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            self.asked.append(inputs.clone())
        logits: Tensor = self.net(inputs[:, :NUM_FEATURES])
        return logits

    def scanned(self) -> Tensor:
        """Inputs (N, d) of the scan at the start of the epoch that has just been iterated."""
        rows = torch.cat(self.asked)[:N]
        self.asked.clear()
        return rows


def jittered_batch(samples: list[Any]) -> Any:
    """Collate with a random transform of whole batches, from each global stream."""
    inputs, labels = default_collate(samples)
    jitter = torch.rand(1) + random.random() + float(np.random.rand())
    return inputs + jitter * torch.tensor([1.0] * (NUM_FEATURES + NUM_DRAWS) + [0.0]), labels


def make_loader(
    num_workers: int = 0, persistent_workers: bool = False, seed: int = 3, collate_fn: Any = None, **arguments: Any
) -> tuple[MixNNDataLoader, Recorder]:
    model = Recorder()
    data = DataLoader(
        Augmented(),
        batch_size=8,
        collate_fn=collate_fn,
        shuffle=True,
        num_workers=num_workers,
        persistent_workers=persistent_workers,
        generator=torch.Generator().manual_seed(seed),
    )
    return MixNNDataLoader(data, model, feature_layer="net.head", **(RUN | arguments)), model


def draws_of_scans(loader: MixNNDataLoader, model: Recorder, epochs: int) -> list[Tensor]:
    """Of each scan, what its transforms drew, (N, 3); warm-up comes first."""
    for _ in loader:
        model.asked.clear()
    found = []
    for _ in range(epochs):
        list(loader)
        found.append(model.scanned()[:, NUM_FEATURES : NUM_FEATURES + NUM_DRAWS])
    return found


WORKERS = pytest.mark.parametrize(
    "workers",
    [{"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}],
    ids=str,
)


@WORKERS
@pytest.mark.parametrize("collate_fn", [None, jittered_batch])
def test_random_transforms_do_not_depend_on_the_workers(workers: dict[str, Any], collate_fn: Any) -> None:
    expected = draws_of_scans(*make_loader(collate_fn=collate_fn), epochs=2)
    found = draws_of_scans(*make_loader(collate_fn=collate_fn, **workers), epochs=2)
    for draws, alone in zip(found, expected, strict=True):
        assert torch.equal(draws, alone)


def test_random_transforms_differ_between_scans_samples_and_seeds() -> None:
    first, second = draws_of_scans(*make_loader(), epochs=2)
    (other,) = draws_of_scans(*make_loader(seed=4), epochs=1)
    assert torch.equal(first, other)  # the seed of the user's shuffling is none of the scan's
    loader, model = make_loader()
    (reseeded,) = draws_of_scans(MixNNDataLoader(loader.dataset, model, batch_size=8, **RUN, seed=1), model, epochs=1)
    drawn = torch.cat([first, second, reseeded]).flatten().tolist()
    assert len(set(drawn)) > 0.99 * len(drawn)


def test_a_scan_does_not_depend_on_what_the_random_streams_did_before() -> None:
    expected = draws_of_scans(*make_loader(), epochs=1)
    loader, model = make_loader()
    for _ in loader:
        model.asked.clear()
        torch.rand(5), random.random(), np.random.rand(7)
    list(loader)
    assert torch.equal(model.scanned()[:, NUM_FEATURES : NUM_FEATURES + NUM_DRAWS], expected[0])


def streams() -> list[Any]:
    name, key, *rest = np.random.get_state()
    return [torch.get_rng_state().tolist(), random.getstate(), name, np.asarray(key).tolist(), rest]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("arguments", [{"neighbors": "batch"}, {"scan": "running"}, {"scan_every": 2}], ids=str)
def test_the_users_streams_are_those_of_a_run_without_scans(num_workers: int, arguments: dict[str, Any]) -> None:
    def states_by_batch(**arguments: Any) -> list[Any]:
        with forked_random_state(3):
            loader, _ = make_loader(num_workers, collate_fn=jittered_batch, **arguments)
            return [[*streams(), loader.generator.get_state().tolist()] for _ in range(3) for _batch in loader]

    assert states_by_batch(**arguments) == states_by_batch(warmup_epochs=10)


def identity(batches: list[MixNNBatch]) -> list[Any]:
    """All that batches hold, but for the processes that loaded them."""
    return [[batch.inputs[:, :-1], *tensors_of(batch.targets).values()] for batch in batches]


@pytest.mark.parametrize("arguments", [{"scan": "running"}, {"scan_every": 2}], ids=str)
def test_a_resumed_run_with_random_transforms_in_workers(arguments: dict[str, Any]) -> None:
    uninterrupted, _ = make_loader(num_workers=2, **arguments)
    expected = [list(uninterrupted) for _ in range(5)]

    first, _ = make_loader(num_workers=2, **arguments)
    for _ in range(2):
        list(first)
    resumed, _ = make_loader(num_workers=2, seed=99, **arguments)
    resumed.load_state_dict(first.state_dict())

    for batches in expected[2:]:
        torch.testing.assert_close(identity(list(resumed)), identity(batches), rtol=0, atol=0)
    assert torch.equal(resumed.losses, uninterrupted.losses)


def test_scans_of_a_resumed_run_with_workers_that_stay_alive() -> None:
    """Their own streams go on, as in the plain loader; those of the scan do not depend on them."""
    uninterrupted, model = make_loader(num_workers=2, persistent_workers=True)
    expected = draws_of_scans(uninterrupted, model, epochs=3)

    first, model = make_loader(num_workers=2, persistent_workers=True)
    draws_of_scans(first, model, epochs=1)
    resumed, model = make_loader(num_workers=2, persistent_workers=True, seed=99)
    resumed.load_state_dict(first.state_dict())

    for draws in expected[1:]:
        list(resumed)
        assert torch.equal(model.scanned()[:, NUM_FEATURES : NUM_FEATURES + NUM_DRAWS], draws)
    assert torch.equal(resumed.losses, uninterrupted.losses)
    assert torch.equal(resumed.neighbor_indices, uninterrupted.neighbor_indices)


def processes(rows: Tensor) -> set[int]:
    return {int(process) for process in rows[:, -1].tolist()}


def alive() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


@pytest.mark.parametrize(
    ("arguments", "scans", "persistent_workers", "stay"),
    [
        ({}, [True, True, True], True, True),
        ({}, [True], False, False),
        ({"scan_every": 2}, [True, False, True], True, True),
        ({"scan": "running", "scan_every": 2}, [True, False, True], True, True),
        ({"scan": "running"}, [True, False, False], True, False),
    ],
    ids=str,
)
def test_persistent_workers_of_the_scan_stay_alive_where_there_is_another(
    arguments: dict[str, Any], scans: list[bool], persistent_workers: bool, stay: bool
) -> None:
    loader, model = make_loader(2, persistent_workers, neighbors="batch", **arguments)
    list(loader)
    model.asked.clear()
    workers: set[int] = set()
    for scan in scans:
        list(loader)
        if scan:
            found = processes(model.scanned())
            assert len(found) == 2
            assert os.getpid() not in found
            workers = workers or found
            assert found == workers
        model.asked.clear()
        assert (workers <= alive()) is stay
        assert stay or not workers & alive()


def test_without_workers_the_scan_is_made_by_the_training_process() -> None:
    loader, model = make_loader()
    list(loader)
    model.asked.clear()
    list(loader)
    assert processes(model.scanned()) == {os.getpid()}


def test_every_sample_is_scanned_once_whatever_the_sampler_leaves_out() -> None:
    model = mlp()
    data = DataLoader(Points(), batch_size=7, shuffle=True, drop_last=True)
    loader = MixNNDataLoader(data, model, warmup_epochs=0, num_neighbors=0)
    next(iter(loader))
    points = Points()
    logits = model.eval()(points.inputs)
    assert logits.shape[1] == NUM_CLASSES
    expected = nn.functional.cross_entropy(logits, points.labels, reduction="none")
    torch.testing.assert_close(loader.losses, expected.detach())
