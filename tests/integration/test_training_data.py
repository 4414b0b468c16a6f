"""What is held out is neither scanned nor fitted nor mixed into the training."""

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
from integration.processes import results_of
from torch import nn
from torch.utils.data import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler
from toy import NUM_CLASSES, NUM_FEATURES, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss

N, BATCH_SIZE = 40, 5
FOLD = [index for index in range(N) if index % 4 != 3]
"""What is trained on: three quarters."""

MODELS: WeakKeyDictionary[MixNNDataLoader, nn.Module] = WeakKeyDictionary()
"""Of the loaders that are built here."""

HELD_OUT = [index for index in range(N) if index % 4 == 3]


def noise(count: int = N) -> TensorDataset:
    """Return points whose labels mean nothing."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, NUM_FEATURES, generator=generator)
    return TensorDataset(inputs, torch.randint(NUM_CLASSES, (count,), generator=generator))


class Own(Sampler[int]):
    """A class of the user's that draws the fold."""

    def __iter__(self) -> Iterator[int]:
        return iter([FOLD[place] for place in torch.randperm(len(FOLD)).tolist()])

    def __len__(self) -> int:
        return len(FOLD)


class Stateful(Own):
    """It cannot be copied, and counts how often it is iterated."""

    def __init__(self) -> None:
        self.source = (index for index in range(0))
        self.iterated = 0

    def __iter__(self) -> Iterator[int]:
        self.iterated += 1
        return super().__iter__()


class OwnBatches:
    """A batch sampler of the user's."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter(BatchSampler(Own(), BATCH_SIZE, drop_last=False))

    def __len__(self) -> int:
        return len(FOLD) // BATCH_SIZE


SAMPLERS: dict[str, Any] = {
    "list": lambda: {"sampler": FOLD},
    "own class": lambda: {"sampler": Own()},
    "stateful": lambda: {"sampler": Stateful()},
    "own batches": lambda: {"batch_sampler": OwnBatches()},
    "batches": lambda: {"batch_sampler": BatchSampler(Own(), BATCH_SIZE, drop_last=False)},
    "subset": lambda: {"sampler": SubsetRandomSampler(FOLD)},
    "weights": lambda: {"sampler": WeightedRandomSampler([float(i in FOLD) for i in range(N)], N, replacement=True)},
    "members": lambda: {"sampler": Stateful(), "members": FOLD},
    "mask": lambda: {"sampler": Stateful(), "members": np.isin(np.arange(N), FOLD)},
    "tensor": lambda: {"sampler": Stateful(), "members": torch.tensor(FOLD)},
}
DO_NOT_TELL = ("own class", "stateful", "own batches", "batches")
"""What these draw is known only after it has been drawn."""

NEIGHBORS = pytest.mark.parametrize("neighbors", ["dataset", "random", "batch", "random-batch"])


def wrapped(**arguments: Any) -> MixNNDataLoader:
    torch.manual_seed(0)
    if "batch_sampler" not in arguments:
        arguments = {"batch_size": BATCH_SIZE} | arguments
    model = mlp()
    loader = MixNNDataLoader(noise(), model, **arguments)
    MODELS[loader] = model
    return loader


def build(name: str, **arguments: Any) -> MixNNDataLoader:
    return wrapped(**SAMPLERS[name](), **arguments)


def train(loader: MixNNDataLoader, epochs: int) -> list[torch.Tensor]:
    """Train, and return the neighbors of all batches."""
    model = MODELS[loader]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    neighbors = []
    for _ in range(epochs):
        for batch in loader:
            loss = MixNNLoss()(model(batch.inputs), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            neighbors.append(batch.targets.neighbors.flatten())
    return neighbors


def assert_held_out_untouched(loader: MixNNDataLoader, neighbors: list[torch.Tensor]) -> None:
    assert not set(torch.cat(neighbors).tolist()) & set(HELD_OUT)
    assert bool(loader.losses[HELD_OUT].isnan().all())
    assert bool(loader.clean_probability[HELD_OUT].isnan().all())
    assert bool((loader.given_labels[HELD_OUT] == -1).all())
    assert bool((loader.soft_targets[HELD_OUT] == 0).all())


@pytest.mark.parametrize(
    ("name", "neighbors", "scan"),
    [
        *((name, "dataset", "epoch") for name in SAMPLERS),
        *(("own class", neighbors, "running") for neighbors in ("dataset", "random", "batch")),
        ("stateful", "random-batch", "epoch"),
    ],
)
@pytest.mark.parametrize("warmup_epochs", [0, 1])
def test_a_fold(name: str, warmup_epochs: int, neighbors: Any, scan: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="mixnn_loader")
    loader = build(
        name, warmup_epochs=warmup_epochs, correction_epoch=2, neighbors=neighbors, scan=scan, num_neighbors=2
    )
    waits = warmup_epochs == 0 and name in DO_NOT_TELL
    with pytest.warns(UserWarning, match="epoch 0 is one of warm-up") if waits else nullcontext():
        met = train(loader, 2)
    state = loader.state_dict()
    met += train(loader, 2)
    assert_held_out_untouched(loader, met)
    drawn = loader.given_labels >= 0
    assert bool(loader.clean_probability[drawn].isfinite().all())
    told = [record.getMessage() for record in caplog.records if "take part" in record.getMessage()]
    assert told[-1].startswith(f"{int(drawn.sum())} of {N} samples take part in scan and mixing")
    assert len(told) <= 2

    resumed = build(
        name, warmup_epochs=warmup_epochs, correction_epoch=2, neighbors=neighbors, scan=scan, num_neighbors=2
    )
    resumed.load_state_dict(state)
    assert_held_out_untouched(resumed, train(resumed, 2))


@NEIGHBORS
def test_a_stateful_sampler_is_iterated_once_a_pass(neighbors: Any) -> None:
    sampler = Stateful()
    loader = wrapped(sampler=sampler, warmup_epochs=1, neighbors=neighbors)
    for epoch in range(3):
        assert sampler.iterated == epoch
        neighbors_met = torch.cat(train(loader, 1))
        assert not set(neighbors_met.tolist()) & set(HELD_OUT)
    assert sampler.iterated == 3


def test_a_shorter_range() -> None:
    loader = wrapped(sampler=RandomSampler(range(30)), warmup_epochs=0)
    neighbors = train(loader, 2)
    assert int(torch.cat(neighbors).max()) < 30
    assert bool(loader.losses[30:].isnan().all())
    assert bool(loader.losses[:30].isfinite().all())


def test_members_do_not_choose_what_is_drawn() -> None:
    with pytest.raises(ValueError, match=r"index 3, which is not in members: .*SubsetRandomSampler"):
        wrapped(members=FOLD, shuffle=True)
    loader = wrapped(members=FOLD[:-1], sampler=Own(), batch_size=len(FOLD))
    with pytest.raises(ValueError, match=f"index {FOLD[-1]}, which is not in members"):
        next(iter(loader))


def test_neighbors_come_from_all_that_members_names() -> None:
    loader = wrapped(members=range(N), sampler=SubsetRandomSampler(FOLD), warmup_epochs=0, neighbors="random")
    neighbors = torch.cat(train(loader, 3))
    assert set(neighbors.tolist()) & set(HELD_OUT)


@pytest.mark.parametrize("members", [[], [N], "all", [True] * 3, [0.5]])
def test_wrong_members(members: Any) -> None:
    with pytest.raises(ValueError, match="members must be the dataset indices of the training samples, or a mask"):
        wrapped(members=members)


def test_too_few_members() -> None:
    with pytest.raises(ValueError, match=r"num_neighbors must be smaller than the number of training samples \(2\)"):
        wrapped(sampler=[4, 7], members=[4, 7], num_neighbors=2)


def test_another_fold_after_a_reset() -> None:
    sampler = SubsetRandomSampler(FOLD)
    loader = wrapped(sampler=sampler, warmup_epochs=1)
    train(loader, 3)
    sampler.indices = HELD_OUT
    MODELS[loader] = mlp(seed=1)
    loader.reset(MODELS[loader])
    neighbors = train(loader, 3)
    assert set(torch.cat(neighbors).tolist()) <= set(HELD_OUT)
    assert bool(loader.losses[FOLD].isnan().all())


def of_a_fold(rank: int, size: int, *, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Train in two processes."""
    torch.manual_seed(0)
    part = FOLD[rank::size]
    samplers: dict[str, Any] = {
        "lists": part,
        "unknown": type("Part", (Own,), {"__iter__": lambda _: iter(part), "__len__": lambda _: len(part)})(),
        "distributed": DistributedSampler(noise(), num_replicas=size, rank=rank),
    }
    loader = wrapped(sampler=samplers[kind], warmup_epochs=int(kind == "unknown"), neighbors="random")
    return torch.cat(train(loader, 3)), loader.losses


@pytest.mark.parametrize("kind", ["lists", "unknown", "distributed"])
def test_in_two_processes(kind: str, tmp_path: Path) -> None:
    members = range(N) if kind == "distributed" else FOLD
    for neighbors, losses in results_of(lambda rank, size: of_a_fold(rank, size, kind=kind), 2, tmp_path):
        assert set(neighbors.tolist()) <= set(members)
        assert losses.isfinite().nonzero().flatten().tolist() == list(members)
