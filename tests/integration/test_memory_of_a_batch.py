"""While the user's step runs, the loader holds on to no inputs, neither those it has loaded nor those it has mixed."""

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss
from mixnn_loader.data.unpack import resolve_unpack
from mixnn_loader.functional import clean_posterior

MODES: list[dict[str, Any]] = [{}, {"neighbors": "batch", "scan": "running"}, {"num_neighbors": 0}]


class Watched:
    """Unpacks batches, and notes the inputs."""

    def __init__(self) -> None:
        self.loaded: list[weakref.ref[Tensor]] = []

    def __call__(self, batch: Any) -> Any:
        inputs, labels = resolve_unpack(None)(batch)
        self.loaded.append(weakref.ref(inputs))
        return inputs, labels


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_no_inputs_are_kept_during_the_step(mode: dict[str, Any], num_workers: int) -> None:
    unpack, model = Watched(), mlp()
    plain = DataLoader(Points(), 8, shuffle=True, num_workers=num_workers)
    loader = MixNNDataLoader(plain, model, warmup_epochs=2, correction_epoch=3, unpack=unpack, **mode)
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.1), MixNNLoss()
    clean_posterior(torch.rand(9))  # what this imports first leaves a cycle
    gc.disable()  # what only a cycle holds would stay on a GPU, too
    try:
        for _ in range(4):
            for inputs, targets in loader:
                loss = criterion(model(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                handed_out = weakref.ref(inputs)
                del inputs, targets, loss
                assert handed_out() is None
                assert all(reference() is None for reference in unpack.loaded)
    finally:
        gc.enable()
