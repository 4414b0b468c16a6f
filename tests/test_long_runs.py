"""A long run holds on to no more at its end than near its start."""

import gc
import multiprocessing
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss

PROC = Path("/proc/self")
EARLY = 3
"""By the end of this epoch every phase has been gone through once."""

MEBIBYTE = 2**20


class Held(NamedTuple):
    """What the process holds, without what is only waiting to be collected."""

    resident_bytes: int
    tensors: int
    file_descriptors: int
    children: int


def held() -> Held:
    gc.collect()
    return Held(
        resident_bytes=int((PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        tensors=sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()),
        file_descriptors=len(list((PROC / "fd").iterdir())),
        children=len(multiprocessing.active_children()),
    )


@pytest.mark.skipif(not (PROC / "statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("persistent_workers", "epochs", "children", "mebibytes"),
    [
        pytest.param(True, 30, 4, 8, id="workers that stay"),  # two of the pass and two of the scan
        pytest.param(False, 6, 0, 5, id="new workers in every epoch"),  # fewer: each takes 4 processes to be started
    ],
)
def test_the_last_epoch_holds_what_an_early_one_held(
    persistent_workers: bool, epochs: int, children: int, mebibytes: int
) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = MixNNDataLoader(
        Points(),
        model,
        warmup_epochs=1,
        correction_epoch=2,
        batch_size=20,
        shuffle=True,
        generator=torch.Generator().manual_seed(0),
        num_workers=2,
        persistent_workers=persistent_workers,
        multiprocessing_context="fork",
    )
    before = held()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(loader, model, optimizer, EARLY)
        early = held()
        run(loader, model, optimizer, epochs - EARLY)
    late = held()

    assert late.children == early.children == before.children + children
    assert late.file_descriptors == early.file_descriptors
    assert late.tensors == early.tensors
    assert late.resident_bytes - early.resident_bytes < mebibytes * MEBIBYTE
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == len(set(messages))
    assert [record["epoch"] for record in loader.history] == list(range(epochs))
    assert len({frozenset(record) for record in loader.history}) == 1
    assert sum(map(num_values, loader.history)) < 30 * epochs


def run(loader: MixNNDataLoader, model: torch.nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    criterion = MixNNLoss()
    for _ in range(epochs):
        for inputs, targets in loader:
            loss = criterion(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def num_values(record: dict[str, Any]) -> int:
    """How many numbers or names a record of the history is made of."""
    assert all(isinstance(value, (int, float, str, list, tuple, type(None))) for value in record.values())
    return sum(len(value) if isinstance(value, (list, tuple)) else 1 for value in record.values())
