"""The grid: kinds of datasets, ways of sampling and hyper-parameters that users combine, and how to draw them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from integration.reference import Floats, Integers
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    Sampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)
from toy import Samples

NUM_FEATURES, NUM_CLASSES = 6, 3
SEED = 17  # of the order in which samples are drawn


class Bulk(Samples):
    """Gives out many samples at a time, and none alone."""

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(index)

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """As PyTorch's fetcher calls it."""
        return [self.samples[index] for index in indices]


def _subset(inputs: Tensor, labels: Tensor) -> Dataset[Any]:
    """The samples are every other one, from the back, of a dataset of twice the size."""
    of_both = TensorDataset(
        torch.stack([inputs, -inputs], dim=1).flatten(0, 1), torch.stack([labels, 0 * labels], dim=1).flatten()
    ).tensors
    return Subset(TensorDataset(*(rows.flip(0) for rows in of_both)), list(range(2 * len(labels) - 1, 0, -2)))


def _samples(make: Callable[[Tensor, int], Any], inputs: Tensor, labels: Tensor) -> Dataset[Any]:
    return Samples([make(row, label) for row, label in zip(inputs, labels.tolist(), strict=True)])


KINDS: dict[str, Callable[[Tensor, Tensor], Dataset[Any]]] = {
    "tensors": TensorDataset,
    "tuples": lambda x, y: _samples(lambda row, label: (row, label, "a file name"), x, y),
    "mappings": lambda x, y: _samples(lambda row, label: {"name": "x", "image": row, "label": label}, x, y),
    "tuples of inputs": lambda x, y: _samples(lambda row, label: ((row[:2].view(1, 2), row[2:]), label), x, y),
    "mappings of inputs": lambda x, y: _samples(lambda row, label: ({"a": row[:1], "b": row[1:]}, label), x, y),
    "many at a time": lambda x, y: Bulk(list(zip(x, y, strict=True))),
    "subset": _subset,
}

SAMPLINGS = ("in order", "shuffled", "weighted", "weighted, without replacement", "subset", "uneven batches")


class UnevenBatches(Sampler[list[int]]):
    """Batches of 1, 5, 2 and 8 samples in turn; in the longer ones a sample is drawn twice."""

    def __init__(self, num_samples: int, generator: torch.Generator | None) -> None:
        self.num_samples, self.generator = num_samples, generator

    def __len__(self) -> int:
        return len(self._cuts()) - 1

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self.num_samples, generator=self.generator).tolist()
        cuts = self._cuts()
        for start, end in pairwise(cuts):
            batch = order[start:end]
            yield batch + batch[:1] if len(batch) > 2 else batch

    def _cuts(self) -> list[int]:
        cuts = [0]
        while cuts[-1] < self.num_samples:
            cuts.append(min(cuts[-1] + (1, 5, 2, 8)[(len(cuts) - 1) % 4], self.num_samples))
        return cuts


def counted(samples: list[Any]) -> tuple[Any, int]:
    """A ``collate_fn`` that puts the usual batch into a structure of its own."""
    return default_collate(samples), len(samples)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A dataset, the DataLoader around it, and the loader's hyper-parameters."""

    kind: str = "tensors"
    sampling: str = "shuffled"
    own_generator: bool = True
    num_samples: int = 13
    batch_size: int = 4
    drop_last: bool = False
    custom_collate: bool = False
    num_workers: int = 0
    persistent_workers: bool = False
    num_neighbors: int = 1
    neighbors: str = "dataset"
    neighbor_pool: int | None = None
    weighting: str = "mixture"
    warmup_epochs: int = 1
    correction_epoch: int | None = 2
    momentum: float = 0.9
    scan: str = "epoch"
    scan_every: int | None = None
    inputs: Tensor = field(init=False, repr=False, compare=False)
    labels: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Draw the data: two samples have the same inputs."""
        rng = np.random.default_rng(self.num_samples)
        labels = rng.integers(NUM_CLASSES, size=self.num_samples)
        centers = 2 * np.eye(NUM_CLASSES, NUM_FEATURES)[labels]
        inputs = torch.tensor(centers + rng.normal(size=centers.shape), dtype=torch.float32)
        inputs[1] = inputs[0]
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "labels", torch.from_numpy(labels))

    @property
    def settings(self) -> dict[str, Any]:
        """What is passed on to `MixNNDataLoader`."""
        names = ("num_neighbors", "neighbors", "neighbor_pool", "weighting", "warmup_epochs", "correction_epoch")
        return {name: getattr(self, name) for name in (*names, "momentum", "scan", "scan_every")}

    @property
    def members(self) -> Integers:
        """The samples that can be drawn: all but every fifth, where some are left out."""
        everyone = np.arange(self.num_samples)
        leaves_out = self.sampling in ("weighted", "weighted, without replacement", "subset")
        return everyone[everyone % 5 != 0] if leaves_out else everyone

    def dataset(self) -> Dataset[Any]:
        """The samples."""
        return KINDS[self.kind](self.inputs, self.labels)

    def unpack(self, batch: Any) -> tuple[Any, Any]:
        """Find inputs and labels in a batch."""
        batch = batch[0] if self.custom_collate else batch
        return (batch["image"], batch["label"]) if isinstance(batch, Mapping) else (batch[0], batch[1])

    def loader(self, dataset: Any) -> DataLoader[Any]:
        """The user's loader of ``dataset``, with generators as they are before the first epoch."""
        generator = torch.Generator().manual_seed(SEED) if self.own_generator else None
        arguments: dict[str, Any] = {"batch_size": self.batch_size, "drop_last": self.drop_last}
        drawn = np.isin(np.arange(self.num_samples), self.members)
        match self.sampling:
            case "shuffled":
                arguments["shuffle"] = True
            case "weighted":
                weights = (drawn * (1 + np.arange(self.num_samples) % 3)).tolist()
                arguments["sampler"] = WeightedRandomSampler(weights, self.num_samples + 2, generator=generator)
            case "weighted, without replacement":
                half = len(self.members) // 2
                arguments["sampler"] = WeightedRandomSampler(
                    drawn.tolist(), half, replacement=False, generator=generator
                )
            case "subset":
                arguments["sampler"] = SubsetRandomSampler(self.members.tolist(), generator)
            case "uneven batches":
                arguments = {"batch_sampler": UnevenBatches(self.num_samples, generator)}
        arguments |= {"num_workers": self.num_workers, "persistent_workers": self.persistent_workers}
        return DataLoader(
            dataset, generator=generator, collate_fn=counted if self.custom_collate else None, **arguments
        )


@st.composite
def cases(draw: st.DrawFn, num_workers: int = 0) -> Case:
    """Draw from the whole grid; 7 samples can be neighbors of an eighth in the smallest case."""
    neighbors = draw(st.sampled_from(["dataset", "batch", "random", "random-batch"]))
    num_neighbors = draw(st.integers(0, 4))
    pools = st.none() | st.integers(num_neighbors, 6)
    sampling = draw(st.sampled_from(SAMPLINGS))
    waits = sampling == "uneven batches"  # what a batch sampler of the user's draws is known after an epoch
    return Case(
        kind=draw(st.sampled_from(list(KINDS))),
        sampling=sampling,
        own_generator=draw(st.booleans()),
        num_samples=draw(st.sampled_from([10, 13, 22])),
        batch_size=draw(st.integers(1, 7)),
        drop_last=draw(st.booleans()),
        custom_collate=draw(st.booleans()),
        num_workers=num_workers,
        persistent_workers=num_workers > 0 and draw(st.booleans()),
        num_neighbors=num_neighbors,
        neighbors=neighbors,
        neighbor_pool=draw(pools) if neighbors == "dataset" else None,
        weighting=draw(st.sampled_from(["mixture", "uniform", "beta"])),
        warmup_epochs=draw(st.integers(int(waits), 2)),
        correction_epoch=draw(st.none() | st.integers(0, 3)),
        momentum=draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])),
        scan=draw(st.sampled_from(["epoch", "running"])),
        scan_every=draw(st.none() | st.integers(1, 3)),
    )


def flat(inputs: Any) -> Tensor:
    """(B, NUM_FEATURES) of inputs in whatever structure."""
    if isinstance(inputs, Tensor):
        return inputs.flatten(1)
    parts = inputs.values() if isinstance(inputs, Mapping) else inputs
    return torch.cat([part.flatten(1) for part in parts], dim=1)


class Net(nn.Module):
    """One hidden layer; in train mode its answers are others than in eval mode, without a random number."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.body, self.head = nn.Linear(NUM_FEATURES, 8), nn.Linear(8, NUM_CLASSES)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.4, generator=generator)

    def forward(self, inputs: Any) -> Tensor:
        """Logits (B, NUM_CLASSES)."""
        hidden = self.body(flat(inputs)).relu()
        logits: Tensor = self.head(2 * hidden if self.training else hidden)
        return logits


@dataclass(frozen=True)
class Snapshot:
    """The weights of a `Net` at some moment, in float64."""

    weights: dict[str, Floats]

    @classmethod
    def of(cls, model: nn.Module) -> "Snapshot":
        """Copy the weights."""
        return cls({name: tensor.double().numpy().copy() for name, tensor in model.state_dict().items()})

    def answer(self, inputs: Floats) -> tuple[Floats, Floats]:
        """What the model says in eval mode: logits (B, C) and representations (B, 8)."""
        representations = np.maximum(inputs @ self.weights["body.weight"].T + self.weights["body.bias"], 0)
        return representations @ self.weights["head.weight"].T + self.weights["head.bias"], representations
