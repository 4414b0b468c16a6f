"""What is needed only after warm-up fails in the first batch, and trying it leaves no trace."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from toy import NUM_CLASSES, NUM_FEATURES, Points, mlp, tensors_of

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss
from mixnn_loader.functional import Credibility, Estimate
from mixnn_loader.neighbors import NeighborSource, Pairs

N, BATCH_SIZE = 40, 8
LATE: dict[str, Any] = {"warmup_epochs": 3, "correction_epoch": 4}


class Broken(Points):
    """Cannot be read at all."""

    def __getitem__(self, index: int) -> Any:
        raise OSError(f"no file {index}")


class OtherLabels(Points):
    """Not the same samples in the same order."""

    def __getitem__(self, index: int) -> Any:
        inputs, label = super().__getitem__(index)
        return inputs, (label + 1) % NUM_CLASSES


class OtherShapes(Points):
    """Of another number of features."""

    def __getitem__(self, index: int) -> Any:
        inputs, label = super().__getitem__(index)
        return inputs[:4], label


class Ragged(Points):
    """Samples that no batch can be made of."""

    def __getitem__(self, index: int) -> Any:
        inputs, label = super().__getitem__(index)
        return inputs[: 1 + index % 5], label


class InBulk(Points):
    """Gives whole batches where it is asked for many."""

    def __getitems__(self, indices: list[int]) -> Any:
        return self.inputs[indices], self.labels[indices]


class NoLayers(nn.Module):
    """Has no layer that makes the output."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(NUM_FEATURES, NUM_CLASSES))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ self.matrix


class BadSearch:
    """An object in place of a backend."""

    def __init__(self, answer: Callable[[Tensor, int], Any]) -> None:
        self.answer = answer

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Any:
        del queries
        return self.answer(representations, k)


class BadSource(NeighborSource):
    """One method of it is wrong."""

    def __init__(self, method: str, answer: Any) -> None:
        self.sees = "dataset" if method == "search" else "nothing"
        setattr(self, method, lambda *_: answer)

    def pool_size(self, k: int) -> int:
        return k if self.sees == "dataset" else 0


OF_CREDIBILITY = "the estimate of credibility="


class BadCredibility(Credibility):
    """Its estimates are wrong."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def estimate(self, evidence: Any, warn: Any) -> Any:
        del warn
        return self.answer(evidence)


def raises(*_: Any) -> Any:
    raise ZeroDivisionError("of the user's")


PAIRS_OF_FLOATS = Pairs(torch.zeros(BATCH_SIZE, 1), torch.ones(BATCH_SIZE, 1, dtype=torch.bool))
PAIRS_BEYOND = Pairs(torch.full((BATCH_SIZE, 1), 99), torch.ones(BATCH_SIZE, 1, dtype=torch.bool))

BROKEN: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "scan_dataset raises": ({"scan_dataset": Broken(N)}, OSError, "no file"),
    "scan_dataset, labels": ({"scan_dataset": OtherLabels(N)}, ValueError, "scan_dataset must hold the same samples"),
    "scan_dataset, shapes": ({"scan_dataset": OtherShapes(N)}, RuntimeError, "mat1 and mat2|shape"),
    "scan_dataset, ragged": ({"scan_dataset": Ragged(N)}, RuntimeError, "stack expects each tensor to be equal size"),
    "scan_dataset, bulk": ({"scan_dataset": InBulk(N)}, RuntimeError, "stack expects|not resizable"),
    "feature layer": ({"model": NoLayers()}, ValueError, "feature_layer"),
    "feature layer, in the batch": ({"model": NoLayers(), "neighbors": "batch"}, ValueError, "feature_layer"),
    "search raises": ({"search": BadSearch(raises)}, ZeroDivisionError, "of the user's"),
    "search, floats": ({"search": BadSearch(lambda x, k: x[:, :k])}, ValueError, "search must return row numbers"),
    "search, beyond": ({"search": BadSearch(lambda x, k: torch.full((len(x), k), 99))}, ValueError, "below 8, got 99"),
    "neighbors.search": ({"neighbors": BadSource("search", 3)}, ValueError, "the search of neighbors="),
    "neighbors.draw": ({"neighbors": BadSource("draw", [[1]])}, ValueError, "the draw of neighbors="),
    "neighbors.draw, shape": (
        {"neighbors": BadSource("draw", np.ones((3, 3), int))},
        ValueError,
        "the draw of neighbors=",
    ),
    "neighbors.draw, beyond": (
        {"neighbors": BadSource("draw", np.full((BATCH_SIZE, 1), N))},
        ValueError,
        r"the draw of neighbors= must return dataset indices in 0\.\.39, got 40",
    ),
    "neighbors.pair": ({"neighbors": BadSource("pair", 3)}, ValueError, "the pair of neighbors="),
    "neighbors.pair, floats": ({"neighbors": BadSource("pair", PAIRS_OF_FLOATS)}, ValueError, "the pair of neighbors="),
    "neighbors.pair, beyond": ({"neighbors": BadSource("pair", PAIRS_BEYOND)}, ValueError, "the pair of neighbors="),
    "weighting raises": ({"weighting": raises}, ZeroDivisionError, "of the user's"),
    "weighting, arguments": ({"weighting": lambda found: found}, TypeError, "positional argument"),
    "weighting, array": ({"weighting": lambda p, *_: p.numpy()}, ValueError, "weighting= must return"),
    "weighting, shape": ({"weighting": lambda p, *_: p[:, :1].exp()}, ValueError, "weighting= must return"),
    "weighting, sum": (
        {"weighting": lambda p, *_: torch.ones_like(p)},
        ValueError,
        "weighting= must return weights >= 0",
    ),
    "weighting, not found": (
        {"weighting": lambda p, *_: torch.full_like(p, 0.5)},
        ValueError,
        "weighting= must return weights >= 0 .* zero for neighbors that are not found",
    ),
    "credibility raises": ({"credibility": BadCredibility(raises)}, ZeroDivisionError, "of the user's"),
    "credibility, number": ({"credibility": BadCredibility(lambda _: 0.5)}, ValueError, OF_CREDIBILITY),
    "credibility, shape": (
        {"credibility": BadCredibility(lambda _: Estimate(torch.zeros(3), None))},
        ValueError,
        OF_CREDIBILITY,
    ),
    "credibility, array": (
        {"credibility": BadCredibility(lambda e: (e.losses.numpy(), None))},
        ValueError,
        OF_CREDIBILITY,
    ),
}


@pytest.mark.parametrize("num_workers", [0])
@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_shows_in_the_first_batch(what: str, num_workers: int) -> None:
    if num_workers > 0 and not what.startswith("scan_dataset"):
        num_workers = 0  # nothing of it is done in a worker
    arguments, error, message = BROKEN[what]
    arguments = {"model": mlp(), **LATE, **arguments}
    loader = MixNNDataLoader(Points(N), batch_size=BATCH_SIZE, num_workers=num_workers, **arguments)
    for _ in range(2):  # and again, as long as it is not mended
        with pytest.raises(error, match=message):
            next(iter(loader))


def test_a_dataset_in_bulk_with_a_collate_function_of_its_own() -> None:
    loader = MixNNDataLoader(InBulk(N), mlp(), batch_size=BATCH_SIZE, collate_fn=lambda batch: batch, **LATE)
    with pytest.raises((ValueError, TypeError)):
        next(iter(loader))


class Touched(Dataset[Any]):
    """Notes which samples are read, and augments them from the global streams."""

    def __init__(self) -> None:
        self.points, self.read = Points(N), set[int]()

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        self.read.add(index)
        inputs, label = self.points[index]
        return inputs + torch.rand(()) + random.random() + float(np.random.rand()), label


class Given(Sampler[list[int]]):
    """Batches as they are listed."""

    def __init__(self, *batches: list[int]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def numpy_keys() -> Any:
    """Read NumPy's global stream."""
    state: Any = np.random.get_state()
    return state[1]


MODES: list[dict[str, Any]] = [
    {},
    {"search": "hnsw"},
    {"search": "cells", "neighbor_pool": 6},
    {"scan": "running", "weighting": "beta"},
    {"neighbors": "batch", "weighting": "uniform"},
    {"neighbors": "batch", "scan": "running"},
    {"neighbors": "random", "weighting": "beta"},
    {"neighbors": "random-batch", "scan": "running"},
    {"num_neighbors": 0},
]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("first", [[5], [7, 7, 2, 7]], ids=str)
def test_only_training_data_are_read_and_no_stream_is_touched(first: list[int], mode: dict[str, Any]) -> None:
    arguments = {"num_neighbors": 4, **mode, **LATE}
    dataset, plain = Touched(), Touched()
    loader = MixNNDataLoader(DataLoader(dataset, batch_sampler=Given(first, [1, 2])), mlp(), **arguments)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected, _ = next(iter(DataLoader(plain, batch_sampler=Given(first, [1, 2]))))
    streams = random.getstate(), numpy_keys(), torch.get_rng_state()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    batch = next(iter(loader))
    assert torch.equal(batch.inputs, expected)
    assert random.getstate() == streams[0]
    assert np.array_equal(numpy_keys(), streams[1])
    assert torch.equal(torch.get_rng_state(), streams[2])
    assert dataset.read <= {*first, 1, 2}, "of the 40, these are drawn"
    assert loader.losses.isnan().all()
    assert loader.clean_probability.isnan().all()
    assert (loader.given_labels == -1).all()
    assert (loader.neighbor_indices == -1).all()


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_an_empty_batch_passes_through(mode: dict[str, Any]) -> None:
    def collate(samples: list[Any]) -> Any:
        if not samples:
            return torch.empty(0, NUM_FEATURES), torch.empty(0, dtype=torch.int64)
        return torch.utils.data.default_collate(samples)

    def batches(*, with_empty: bool) -> list[MixNNBatch]:
        empty: list[list[int]] = [[]] if with_empty else []
        sampler = Given(*empty, list(range(20)), *empty, list(range(20, 40)), *empty)
        plain = DataLoader(Points(N), batch_sampler=sampler, collate_fn=collate)
        model = mlp()
        settings: dict[str, Any] = {"warmup_epochs": 1, "correction_epoch": 2, "num_neighbors": 2, **mode}
        loader = MixNNDataLoader(plain, model, **settings)
        optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.1), MixNNLoss()
        seen: list[MixNNBatch] = []
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for _ in range(4):
                for inputs, targets in loader:
                    seen.append(MixNNBatch(inputs, targets))
                    if len(targets) > 0:
                        loss = criterion(model(inputs), targets)
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
        assert loader.epoch == 4
        return seen

    seen = batches(with_empty=True)
    assert len(seen) == 4 * 5
    for batch in seen:
        if len(batch.targets) == 0:
            num_neighbors = batch.targets.neighbors.shape[1]
            assert batch.inputs.shape == (0, NUM_FEATURES)
            assert batch.targets.mixed.shape == (0, NUM_CLASSES)
            assert batch.targets.weights.shape == (0, num_neighbors + 1)
    draws = (
        "neighbor_pool" in mode or "beta" in mode.values() or {"random", "random-batch"} & set(map(str, mode.values()))
    )
    if not draws:  # by the number of the batch
        full = [batch for batch in seen if len(batch.targets) > 0]
        for batch, same in zip(full, batches(with_empty=False), strict=True):
            assert torch.equal(batch.inputs, same.inputs)
            for name, tensor in tensors_of(batch.targets).items():
                assert torch.equal(tensor, tensors_of(same.targets)[name]), name


def test_a_script_that_ends_in_the_midst_of_an_epoch_ends_well() -> None:
    """What is written down when a pass ends is not worth it when Python does, and PyTorch may be gone by then."""
    script = (
        "from toy import Points, mlp\n"
        "from mixnn_loader import MixNNDataLoader, MixNNLoss\n"
        "model = mlp()\n"
        "batches = iter(MixNNDataLoader(Points(), model, batch_size=8))\n"
        "batch = next(batches)\n"
        "MixNNLoss()(model(batch.inputs), batch).backward()\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    finished = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
