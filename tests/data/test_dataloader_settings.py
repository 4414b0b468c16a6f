"""Every setting of the DataLoader and every kind of dataset goes through warm-up, mixing and correction."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)
from torchvision import transforms
from toy import NUM_FEATURES, Points, Samples, mlp

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss

SETTINGS: dict[str, Any] = {"warmup_epochs": 1, "correction_epoch": 2, "num_neighbors": 2}
EPOCHS = 3


def train(loader: MixNNDataLoader, model: nn.Module, call: Callable[..., Tensor] | None = None) -> list[MixNNBatch]:
    """Train as a user would and return the last epoch's batches."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    criterion = MixNNLoss()
    batches: list[MixNNBatch] = []
    for _ in range(EPOCHS):
        batches = []
        for batch in loader:
            logits = model(batch.inputs) if call is None else call(model, batch.inputs)
            optimizer.zero_grad()
            criterion(logits, batch).backward()
            optimizer.step()
            batches.append(batch)
    return batches


def plain_indices(loader: DataLoader[Any]) -> list[list[int]]:
    """Return the dataset indices of a plain loader over ``(x, y, index)`` samples, batch by batch."""
    return [indices.tolist() for _, _, indices in loader]


class IndexedPoints(Points):
    """Samples ``(x, y, index)``."""

    def __getitem__(self, index: int) -> Any:
        return (*super().__getitem__(index), index)


class EvenThenOdd(Sampler[list[int]]):
    """A batch sampler of one's own, without an inner sampler, and with batches of different sizes."""

    def __iter__(self) -> Iterator[list[int]]:
        yield list(range(0, 40, 2))
        yield list(range(1, 40, 2))
        yield [3]

    def __len__(self) -> int:
        return 3


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


LOADERS: dict[str, Callable[[Dataset[Any]], DataLoader[Any]]] = {
    "in order": lambda data: DataLoader(data, batch_size=8),
    "shuffle": lambda data: DataLoader(data, batch_size=8, shuffle=True),
    "generator": lambda data: DataLoader(data, batch_size=8, shuffle=True, generator=generator()),
    "last batch of one": lambda data: DataLoader(data, batch_size=13, shuffle=True),
    "drop_last": lambda data: DataLoader(data, batch_size=13, shuffle=True, drop_last=True),
    "batch size one": lambda data: DataLoader(data, batch_size=1),
    "larger than the dataset": lambda data: DataLoader(data, batch_size=100),
    "workers": lambda data: DataLoader(data, batch_size=8, shuffle=True, num_workers=2),
    "persistent workers": lambda data: DataLoader(
        data, batch_size=8, shuffle=True, num_workers=2, persistent_workers=True, prefetch_factor=4
    ),
    "replacement": lambda data: DataLoader(
        data, batch_size=8, sampler=WeightedRandomSampler(torch.linspace(0.1, 1, 40).tolist(), 60)
    ),
    "sampler": lambda data: DataLoader(
        data, batch_size=8, sampler=RandomSampler(range(40), generator=generator(), num_samples=24)
    ),
    "batch sampler": lambda data: DataLoader(
        data, batch_sampler=BatchSampler(RandomSampler(range(40)), batch_size=9, drop_last=True)
    ),
    "batch sampler of one's own": lambda data: DataLoader(data, batch_sampler=EvenThenOdd()),
}


@pytest.mark.parametrize(
    ("name", "neighbors"),
    [*((name, "dataset") for name in LOADERS), *((name, "batch") for name in LOADERS if "workers" not in name)],
)
def test_any_setting(name: str, neighbors: Any) -> None:
    make = LOADERS[name]
    torch.manual_seed(3)
    plain = make(IndexedPoints())
    expected = [plain_indices(plain) for _ in range(EPOCHS)]

    torch.manual_seed(3)
    model = (
        mlp().eval()
    )  # BatchNorm in eval mode: a batch of one is a setting too, and no dropout draws from the stream
    wrapped = make(IndexedPoints())
    loader = MixNNDataLoader(wrapped, model, neighbors=neighbors, **SETTINGS)
    for epoch in range(EPOCHS):
        batches = list(loader)
        assert [batch.targets.indices.tolist() for batch in batches] == expected[epoch]
        assert len(loader) == len(plain) == len(batches)
        for batch in batches:
            size = len(batch.targets)
            num_neighbors = 0 if epoch == 0 else 2
            assert batch.inputs.shape == (size, NUM_FEATURES)
            assert batch.targets.neighbors.shape == (size, num_neighbors)
            assert batch.targets.weights.shape == (size, num_neighbors + 1)
            assert batch.targets.soft_targets.shape == (size, num_neighbors + 1, 3)
            torch.testing.assert_close(batch.targets.weights.sum(1), torch.ones(size))
            torch.testing.assert_close(batch.targets.mixed.sum(1), torch.ones(size))


class ManyAtOnce(Points):
    """A dataset that is asked for whole batches."""

    asked: list[int]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        self.asked = indices
        assert all(type(index) is int for index in indices)
        return [(self.inputs[i], int(self.labels[i])) for i in indices]

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("__getitems__ must be used")


DATASETS: dict[str, Callable[[], Dataset[Any]]] = {
    "tensors": lambda: TensorDataset(Points().inputs, Points().labels),
    "more parts": IndexedPoints,
    "Subset": lambda: Subset(Points(60), range(10, 50)),
    "ConcatDataset": lambda: ConcatDataset([Points(25), Points(15, seed=0)]),
    "__getitems__": ManyAtOnce,
    "Subset of __getitems__": lambda: Subset(ManyAtOnce(60), range(40)),
    "float64": lambda: TensorDataset(Points().inputs.double(), Points().labels),
}


@pytest.mark.parametrize("make", DATASETS.values(), ids=DATASETS.keys())
def test_any_dataset(make: Callable[[], Dataset[Any]]) -> None:
    dataset = make()
    model = mlp()
    model = model.double() if isinstance(dataset, TensorDataset) and dataset[0][0].dtype == torch.float64 else model
    loader = MixNNDataLoader(dataset, model, batch_size=8, shuffle=True, num_workers=1, **SETTINGS)
    batches = train(loader, model)
    assert sorted(torch.cat([batch.targets.indices for batch in batches]).tolist()) == list(range(40))
    assert {batch.inputs.dtype for batch in batches} == {next(model.parameters()).dtype}


MAPPINGS: list[Any] = [
    ("pixels", "label"),
    lambda batch: (batch["pixels"], batch["label"]),
]


@pytest.mark.parametrize("unpack", MAPPINGS, ids=["keys", "function"])
def test_mappings(unpack: Any) -> None:
    points = Points()
    samples = Samples([{"label": y, "name": str(i), "pixels": x} for i, (x, y) in enumerate(list_of(points))])
    model = mlp()
    batches = train(MixNNDataLoader(samples, model, unpack=unpack, batch_size=8, **SETTINGS), model)
    assert torch.equal(torch.cat([batch.targets.labels for batch in batches]), points.labels)


def test_unpack_by_position() -> None:
    samples = Samples([(y, x) for x, y in list_of(Points())])
    model = mlp()
    train(MixNNDataLoader(samples, model, unpack=(1, 0), batch_size=8, **SETTINGS), model)


def test_an_unpack_key_that_is_not_there() -> None:
    samples = Samples([{"pixels": x, "label": y} for x, y in list_of(Points())])
    loader = MixNNDataLoader(samples, mlp(), unpack=("image", "label"), batch_size=8)
    with pytest.raises(TypeError, match=r"unpack='image' is not in the batch; its keys are \['pixels', 'label'\]"):
        next(iter(loader))


class TwoParts(nn.Module):
    """Takes a nest of inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(NUM_FEATURES, 3)

    def forward(self, inputs: Any) -> Tensor:
        """``{"left": (B, 2), "right": [(B, 4)]}`` -> (B, 3)."""
        logits: Tensor = self.head(torch.cat([inputs["left"], inputs["right"][0]], dim=1))
        return logits


def test_nested_inputs() -> None:
    samples = Samples([({"left": x[:2], "right": [x[2:]]}, y) for x, y in list_of(Points())])
    model = TwoParts()
    batch = train(MixNNDataLoader(samples, model, batch_size=8, **SETTINGS), model)[0]
    left, right = Points().inputs[:, :2], Points().inputs[:, 2:]
    members = torch.cat([batch.targets.indices.unsqueeze(1), batch.targets.neighbors], dim=1)
    weights = batch.targets.weights.unsqueeze(-1)
    torch.testing.assert_close(batch.inputs["left"], (weights * left[members]).sum(1))
    torch.testing.assert_close(batch.inputs["right"][0], (weights * right[members]).sum(1))


class Pictures(Dataset[Any]):
    """PIL images with transforms, as torchvision's datasets give them."""

    def __init__(self) -> None:
        self.transform = transforms.Compose([transforms.RandomHorizontalFlip(), transforms.ToTensor()])

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        return self.transform(Image.new("RGB", (4, 4), (12 * index, 0, 255 - 12 * index))), index % 3


@pytest.mark.parametrize("num_workers", [0, 2])
def test_pictures_in_workers(num_workers: int) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    loader = MixNNDataLoader(Pictures(), model, batch_size=6, num_workers=num_workers, **SETTINGS)
    assert train(loader, model)[0].inputs.shape == (6, 3, 4, 4)


def test_a_collate_function_of_ones_own_sees_samples_only() -> None:
    seen: list[Any] = []

    def collate(samples: list[Any]) -> Any:
        seen.extend(samples)
        return {"x": torch.stack([x for x, _ in samples]), "y": torch.tensor([y for _, y in samples])}

    model = mlp()
    loader = MixNNDataLoader(Points(), model, unpack=("x", "y"), batch_size=8, collate_fn=collate, **SETTINGS)
    train(loader, model)
    assert all(isinstance(x, Tensor) and type(y) is int for x, y in seen)


def test_a_worker_init_function_finds_the_users_dataset() -> None:
    def mark(worker_id: int) -> None:
        info = torch.utils.data.get_worker_info()
        assert info is not None
        dataset: Any = info.dataset
        dataset.inputs = torch.full_like(dataset.inputs, float(worker_id))

    batches = list(MixNNDataLoader(Points(), mlp(), batch_size=20, num_workers=2, worker_init_fn=mark))
    assert [batch.inputs.unique().tolist() for batch in batches] == [[0.0], [1.0]]


def test_spawned_workers() -> None:
    loader = MixNNDataLoader(
        Points(), mlp(), batch_size=20, num_workers=1, multiprocessing_context="spawn", warmup_epochs=0
    )
    assert sum(len(batch.targets) for batch in loader) == 40


def test_batches_out_of_order_keep_their_own_indices() -> None:
    loader = MixNNDataLoader(
        Points(), mlp(), batch_size=4, num_workers=2, in_order=False, warmup_epochs=0, num_neighbors=0
    )
    for batch in loader:
        torch.testing.assert_close(batch.inputs, Points().inputs[batch.targets.indices])


def list_of(dataset: Points) -> list[Any]:
    """Return all samples."""
    return [dataset[index] for index in range(len(dataset))]
