"""A training run as a user has it, which can be saved and taken up after any batch."""

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, Sampler, SubsetRandomSampler, WeightedRandomSampler
from toy import Points, mlp, tensors_of

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes

EPOCHS = 4
SETTINGS: dict[str, Any] = {"warmup_epochs": 1, "correction_epoch": 2, "momentum": 0.7, "num_neighbors": 2}


class UnevenBatches(Sampler[list[int]]):
    """Batches of changing sizes, drawn one at a time from PyTorch's global generator and Python's; no length."""

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(5):
            yield torch.randint(40, (random.randint(3, 9),)).tolist()


class ShuffledBatches(Sampler[list[int]]):
    """Batches without replacement in an order drawn from generators of its own, a batch at a time."""

    def __init__(self, seed: int) -> None:
        self.python = random.Random(seed)
        self.numpy = np.random.default_rng(seed)
        self.legacy = np.random.RandomState(seed)
        self.torch = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[list[int]]:
        left = list(range(40))
        for _ in range(5):
            batch = []
            for _ in range(2):
                places = [self.python.random(), self.numpy.random(), self.legacy.rand()]
                places.append(torch.rand((), generator=self.torch).item())
                batch += [left.pop(int(place * len(left))) for place in places]
            yield batch


class CountingBatches(Sampler[list[int]]):
    """A batch sampler with a state of its own: every epoch goes on where the last one ended."""

    def __init__(self) -> None:
        self.first = 0

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(4):
            self.first += 7
            yield [index % 40 for index in range(self.first, self.first + 7)]

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first = state["first"]


def make_sampling(kind: str) -> dict[str, Any]:
    """DataLoader arguments that draw the samples."""
    generator = torch.Generator().manual_seed(torch.initial_seed())
    weights = torch.linspace(0, 1, 40).tolist()
    match kind:
        case "shuffle":
            return {"batch_size": 8, "shuffle": True}
        case "shuffle, own generator":
            return {"batch_size": 9, "shuffle": True, "generator": generator}
        case "sampler with a generator":
            return {"batch_size": 8, "sampler": RandomSampler(range(40), generator=generator)}
        case "weighted":
            return {"batch_size": 8, "sampler": WeightedRandomSampler(weights, 37)}
        case "weighted, own generator":
            return {"batch_size": 8, "sampler": WeightedRandomSampler(weights, 37, generator=generator)}
        case "subset, dropped last":
            return {"batch_size": 7, "sampler": SubsetRandomSampler(range(5, 35)), "drop_last": True}
        case "drawn one by one":
            return {"batch_sampler": UnevenBatches()}
        case "generators of its own":
            return {"batch_sampler": ShuffledBatches(torch.initial_seed())}
        case _:
            return {"batch_sampler": CountingBatches()}


SAMPLINGS = [
    "shuffle",
    "shuffle, own generator",
    "sampler with a generator",
    "weighted",
    "weighted, own generator",
    "subset, dropped last",
    "drawn one by one",
    "generators of its own",
    "counting",
]
MODES: list[dict[str, Any]] = [
    {},
    {"scan": "running"},
    {"neighbors": "batch"},
    {"neighbors": "batch", "scan": "running"},
    {"neighbor_pool": 6, "scan_every": 2},
    {"neighbors": "random", "weighting": "beta", "scan": "running"},
    {"num_neighbors": 0},
    recipes.robust(epochs=EPOCHS),
]


class Training:
    """A model, its optimizer and its loader, as a user has them."""

    def __init__(self, seed: int, sampling: str, num_workers: int, mode: dict[str, Any]) -> None:
        random.seed(seed)
        torch.manual_seed(seed)
        self.model = mlp(seed)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.plain = DataLoader(Points(), num_workers=num_workers, **make_sampling(sampling))
        self.loader = MixNNDataLoader(self.plain, self.model, **(SETTINGS | mode))

    def batches(self) -> Iterator[list[Tensor]]:
        """Train from where the loader is; after every batch, say what it was."""
        for _ in range(self.loader.epoch, EPOCHS):
            for inputs, targets in self.loader:
                loss = MixNNLoss()(self.model(inputs), targets)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                given = [inputs, *tensors_of(targets).values(), targets.mixed]
                yield [*given, loss.detach(), self.loader.soft_targets.clone()]

    def save(self) -> bytes:
        """Return a checkpoint, with what the caller has to keep beside the loader's state."""
        state: dict[str, Any] = {name: getattr(self, name).state_dict() for name in ("loader", "model", "optimizer")}
        file = io.BytesIO()
        torch.save(state | {"python": random.getstate(), "torch": torch.get_rng_state()}, file)
        return file.getvalue()

    def load(self, checkpoint: bytes) -> None:
        """Take up what `save` returned."""
        state = torch.load(io.BytesIO(checkpoint), weights_only=True)
        for name in ("loader", "model", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        random.setstate(state["python"])
        torch.set_rng_state(state["torch"])


def main(folder: Path, sampling: str, num_workers: int) -> None:
    """Train to the end, and write every batch and a checkpoint into the folder; where there is one, go on from it."""
    torch.set_num_threads(1)
    checkpoint = folder / "checkpoint.pt"
    training = Training(4 if checkpoint.exists() else 3, sampling, num_workers, {})
    if checkpoint.exists():
        training.load(checkpoint.read_bytes())
    for batch in training.batches():
        torch.save(batch, folder / f"batch-{training.loader.epoch}-{training.loader.batch}.pt")
        temporary = folder / "checkpoint.tmp"
        temporary.write_bytes(training.save())
        temporary.replace(checkpoint)
