"""What changes no number: the default type, workers, a model that looks at its batch, neighbors of weight zero."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset
from toy import NUM_CLASSES, NUM_FEATURES, Points, mlp, tensors_of

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss
from mixnn_loader.neighbors import Candidates, NeighborSource

MODES: list[dict[str, Any]] = [
    {},
    {"neighbor_pool": 5, "scan_every": 2},
    {"search": "cells", "weighting": "uniform"},
    {"search": "hnsw"},
    {"scan": "running", "weighting": "beta"},
    {"neighbors": "batch", "scan": "running"},
    {"neighbors": "random", "correct_neighbors": False},
    {"neighbors": "random-batch", "weighting": "beta"},
    {"num_neighbors": 0},
]
SETTINGS: dict[str, Any] = {"warmup_epochs": 1, "correction_epoch": 2, "num_neighbors": 2, "momentum": 0.7}


@contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


def short_training(mode: dict[str, Any], dtype: torch.dtype) -> list[Tensor]:
    points, model = Points(), mlp()
    model.body[3] = nn.Identity()  # the masks of dropout are drawn in the default type
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.1), MixNNLoss()
    seen: list[Tensor] = []
    with torch.random.fork_rng(), default_type(dtype):
        torch.manual_seed(0)
        loader = MixNNDataLoader(points, model, batch_size=8, shuffle=True, **(SETTINGS | mode))
        for _ in range(4):
            for inputs, targets in loader:
                loss = criterion(model(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                seen += [inputs, targets.mixed, loss.detach(), *tensors_of(targets).values()]
            seen += [loader.losses.clone(), loader.clean_probability, loader.soft_targets.clone()]
            seen.append(loader.neighbor_indices.clone())
        seen += list(model.state_dict().values())
    return seen


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_the_default_type_changes_no_bit(mode: dict[str, Any], dtype: torch.dtype) -> None:
    for one, other in zip(short_training(mode, torch.float32), short_training(mode, dtype), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))


class ByItsBatch(nn.Module):
    """Normalizes by its batch in eval mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(NUM_FEATURES, 16)
        self.norm = nn.BatchNorm1d(16, track_running_stats=False)
        self.head = nn.Linear(16, NUM_CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.hidden(inputs)).relu())
        return logits


class Recorder(Dataset[Any]):
    """Sorted by class; its samples carry their index."""

    def __init__(self) -> None:
        points = Points(300)
        order = points.labels.argsort(stable=True)
        self.inputs, self.labels = points.inputs[order], points.labels[order]
        self.is_clean = (points.labels == points.true_labels)[order]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        return self.inputs[index], int(self.labels[index])


def auroc(scores: Tensor, is_positive: Tensor) -> float:
    pairs = scores[is_positive][:, None] - scores[~is_positive]
    return float(((pairs > 0).double() + 0.5 * (pairs == 0)).mean())


def scanned_in_order(num_workers: int) -> tuple[MixNNDataLoader, list[Tensor]]:
    dataset = Recorder()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = ByItsBatch()
        loader = MixNNDataLoader(
            dataset, model, batch_size=30, shuffle=True, num_workers=num_workers, warmup_epochs=6, num_neighbors=1
        )
        optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.05), MixNNLoss()
        scans: list[Tensor] = []
        for epoch in range(8):
            seen: list[Tensor] = []
            hook = model.hidden.register_forward_pre_hook(
                lambda module, args, seen=seen: seen.append(args[0].clone()) if not module.training else None
            )
            for number, (inputs, targets) in enumerate(loader):
                if number == 0 and epoch >= 6:
                    scans.append(torch.cat(seen[-10:]))
                    hook.remove()
                loss = criterion(model(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            hook.remove()
    return loader, scans


def test_a_model_that_normalizes_by_its_batch_is_scanned_in_a_fixed_permutation() -> None:
    loader, scans = scanned_in_order(0)
    assert auroc(loader.clean_probability, Recorder().is_clean) > 0.9
    assert torch.equal(scans[0], scans[1]), "the same in each epoch"
    inputs = Recorder().inputs
    assert scans[0].shape == inputs.shape
    assert not torch.equal(scans[0], inputs)
    assert torch.equal(scans[0].sort(dim=0).values, inputs.sort(dim=0).values)
    for one, other in zip(scans, scanned_in_order(2)[1], strict=True):
        assert torch.equal(one, other), "the same for any number of workers"


class Poisoned(NeighborSource):
    """Every sample's neighbor is the next one; every fourth sample is not finite."""

    def draw(self, indices: np.ndarray, k: int, candidates: Candidates, rng: np.random.Generator) -> np.ndarray:
        del candidates, rng
        return np.repeat((4 * (indices // 4) + 3)[:, None], k, axis=1)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_neighbor_of_weight_zero_leaves_the_sample_as_it_is(value: float) -> None:
    points = Points()
    inputs = points.inputs.clone()
    inputs[3::4] = value
    sampler = [index for index in range(40) if index % 4 != 3]
    model = mlp()
    plain = DataLoader(TensorDataset(inputs, points.labels), 6, sampler=sampler)
    loader = MixNNDataLoader(plain, model, warmup_epochs=0, correction_epoch=0, neighbors=Poisoned(), num_neighbors=2)
    for mixed, targets in loader:
        assert torch.equal(mixed, inputs[targets.indices])
        assert (targets.weights[:, 0] == 1).all()
        assert targets.mixed.isfinite().all()
        loss = MixNNLoss()(model(mixed), targets)
        assert loss.isfinite()


class Counting(nn.Module):
    """Counts its forward passes in a buffer, and drops out in eval mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(NUM_FEATURES, 8)
        self.head = nn.Linear(8, NUM_CLASSES)
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        self.passes: Tensor
        self.masks: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.passes += 1
        hidden = functional.dropout(self.hidden(inputs).exp(), 0.5, training=True)
        if torch.is_grad_enabled():
            self.masks.append(hidden == 0)
        logits: Tensor = self.head(hidden)
        return logits


class Augmented(Points):
    """Draws from all three global streams."""

    def __getitem__(self, index: int) -> Any:
        inputs, label = super().__getitem__(index)
        return inputs + torch.rand(()) + random.random() + float(np.random.rand()), label


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_streams_and_buffers_are_as_without_the_loader(mode: dict[str, Any]) -> None:
    def run(*, with_loader: bool) -> tuple[list[Any], list[Tensor]]:
        with torch.random.fork_rng():
            torch.manual_seed(2), random.seed(2), np.random.seed(2)
            model = Counting()
            plain: Any = DataLoader(Augmented(), 8, shuffle=True)
            loader = MixNNDataLoader(plain, model, **(SETTINGS | mode)) if with_loader else plain
            steps: list[Any] = []
            originals: list[Tensor] = []
            for _ in range(4):
                for batch in loader:
                    if isinstance(batch, MixNNBatch):
                        if batch.targets.neighbors.shape[1] == 0:
                            originals.append(batch.inputs)
                        labels = batch.targets.labels
                    else:
                        originals.append(batch[0])
                        labels = batch[1]
                    model(batch[0])
                    steps.append((labels.tolist(), int(model.passes), random.random(), float(np.random.rand())))
            steps.append(torch.rand(3).tolist())
            return steps, originals + model.masks

    before = random.getstate()
    steps, tensors = run(with_loader=True)
    expected, originals = run(with_loader=False)
    random.setstate(before)
    assert steps == expected
    masks, expected_masks = tensors[-20:], originals[-20:]
    assert all(map(torch.equal, masks, expected_masks))
    num_plain = len(tensors) - 20
    assert num_plain >= 5
    assert all(map(torch.equal, tensors[:num_plain], originals[:num_plain]))
