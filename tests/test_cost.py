"""How often the loader asks the model and the dataset, which is what MixNN costs."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader

N = 43
DRAWN = 40  # drop_last leaves three samples out: a scan (N) is told from the batches of an epoch
K = 2
EPOCHS = 5
LOADED = DRAWN * (1 + K)


class CountedPoints(Points):
    """Writes down which samples are read."""

    def __init__(self) -> None:
        super().__init__(N)
        self.read: Counter[int] = Counter()

    def __getitem__(self, index: int) -> Any:
        self.read[index] += 1
        return super().__getitem__(index)


def counted(arguments: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Train for a few epochs: of each, the samples that the loader asked the model about, and those it read."""
    model, dataset = mlp(), CountedPoints()
    asked: list[int] = []

    def count(module: nn.Module, inputs: tuple[torch.Tensor], _: torch.Tensor) -> None:
        if not module.training:
            asked.append(len(inputs[0]))

    model.register_forward_hook(count)
    loader = MixNNDataLoader(
        DataLoader(dataset, batch_size=8, shuffle=True, drop_last=True),
        model,
        num_neighbors=K,
        warmup_epochs=1,
        correction_epoch=3,
        feature_layer="head",  # looking for it takes a pass of its own
        **arguments,
    )
    forwards, reads = [], []
    for _ in range(EPOCHS):
        for inputs, _targets in loader:
            model(inputs)
        forwards.append(sum(asked))
        reads.append(dataset.read.total())
        asked.clear()
        dataset.read.clear()
    return forwards, reads


CHECK = 8
"""The first batch of all is scanned once, to find what is wrong before warm-up is over."""

CHECK_NEIGHBORS = CHECK * (1 + K)
"""It is also loaded with neighbors, where these come from the dataset."""

FIRST = DRAWN + CHECK + CHECK_NEIGHBORS

RUNNING: dict[str, Any] = {"scan": "running"}
IN_BATCH: dict[str, Any] = {"neighbors": "batch"}
EVERY_OTHER: dict[str, Any] = {"scan_every": 2}


@pytest.mark.parametrize(
    ("arguments", "forwards"),
    [
        # The paper's: a scan, and p_i once targets are corrected.
        ({}, [CHECK, N, N, N + DRAWN, N + DRAWN]),
        ({"neighbors": "random"}, [CHECK, N, N, N + DRAWN, N + DRAWN]),
        # Neighbors in the batch are found by what p_i comes with.
        (IN_BATCH, [CHECK, *[N + DRAWN] * 4]),
        # Running: p_i only, after one scan.
        (RUNNING, [CHECK, N + DRAWN, *[DRAWN] * 3]),
        (RUNNING | IN_BATCH, [CHECK, N + DRAWN, *[DRAWN] * 3]),
        (RUNNING | {"neighbors": "random"}, [CHECK, N + DRAWN, *[DRAWN] * 3]),
        (RUNNING | EVERY_OTHER, [CHECK, N + DRAWN, DRAWN, N + DRAWN, DRAWN]),
        (EVERY_OTHER, [CHECK, N, 0, N + DRAWN, DRAWN]),
        (EVERY_OTHER | IN_BATCH, [CHECK, N + DRAWN, DRAWN, N + DRAWN, DRAWN]),
    ],
    ids=str,
)
def test_forward_passes_an_epoch(arguments: dict[str, Any], forwards: list[int]) -> None:
    assert counted(arguments)[0] == forwards


@pytest.mark.parametrize(
    ("arguments", "reads"),
    [
        ({}, [FIRST, *[N + LOADED] * 4]),
        (IN_BATCH, [DRAWN + CHECK, *[N + DRAWN] * 4]),
        (RUNNING, [FIRST, N + LOADED, *[LOADED] * 3]),
        (RUNNING | {"neighbors": "random"}, [FIRST, N + LOADED, *[LOADED] * 3]),
        (RUNNING | IN_BATCH, [DRAWN + CHECK, N + DRAWN, *[DRAWN] * 3]),
        (RUNNING | {"neighbors": "random-batch"}, [DRAWN + CHECK, N + DRAWN, *[DRAWN] * 3]),
        (EVERY_OTHER, [FIRST, N + LOADED, LOADED, N + LOADED, LOADED]),
    ],
    ids=str,
)
def test_samples_read_an_epoch(arguments: dict[str, Any], reads: list[int]) -> None:
    assert counted(arguments)[1] == reads
