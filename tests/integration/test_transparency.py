"""The user's world is unchanged: the loader against the plain DataLoader, with the same seeds."""

import copy
import gc
import random
import weakref
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, get_worker_info
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes

NUM_SAMPLES, NUM_FEATURES, NUM_CLASSES = 30, 4, 3
NUM_DRAWS = 3  # one of each global stream
EPOCHS = 3
MIXNN: dict[str, Any] = {"warmup_epochs": 1, "correction_epoch": 2}  # an epoch of every phase
Neighbors = Literal["dataset", "batch"]
BOTH_SOURCES = pytest.mark.parametrize("neighbors", ["dataset", "batch"])


class AugmentedDataset(Dataset[tuple[Tensor, int]]):
    """Samples whose last features are drawn from PyTorch's, Python's and NumPy's global streams.

    Every sample that is given out is written down, in memory that worker processes share.
    """

    def __init__(self, num_workers: int = 0) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.randint(NUM_CLASSES, (NUM_SAMPLES,), generator=generator).tolist()
        self.features = torch.randn(NUM_SAMPLES, NUM_FEATURES, generator=generator)
        self._given = torch.zeros(max(1, num_workers), 20 * NUM_SAMPLES, 1 + NUM_DRAWS)
        self._count = torch.zeros(max(1, num_workers), dtype=torch.int64)
        for memory in (self._given, self._count):
            memory.untyped_storage().share_memory_()

    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        draws = torch.tensor([torch.rand(()).item(), random.random(), np.random.rand()])
        info = get_worker_info()
        worker = 0 if info is None else info.id
        self._given[worker, self._count[worker]] = torch.tensor([float(index), *draws])
        self._count[worker] += 1
        return torch.cat([self.features[index], draws]), self.labels[index]

    def draws_since_last_time(self) -> dict[int, list[Tensor]]:
        """Of each sample given out since the last call, by index: the draws (3,) of each time."""
        draws: dict[int, list[Tensor]] = {}
        for given, count in zip(self._given, self._count.tolist(), strict=True):
            for row in given[:count]:
                draws.setdefault(int(row[0]), []).append(row[1:].clone())
        self._count.zero_()
        return draws


def make_model(seed: int = 0) -> nn.Sequential:
    """A model that draws random numbers and keeps statistics when it is trained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(NUM_FEATURES + NUM_DRAWS, 8),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(8, NUM_CLASSES),
        )


def seed_everything() -> None:
    torch.manual_seed(11)
    random.seed(12)
    np.random.seed(13)


def random_states() -> list[Any]:
    """Of the three global streams, in a form that == compares."""
    name, key, *rest = np.random.get_state()
    return [torch.get_rng_state().tolist(), random.getstate(), name, np.asarray(key).tolist(), rest]


class Setting:
    """DataLoader arguments, and what has to be the same in the plain and in the wrapped world."""

    def __init__(self, num_workers: int, own_generator: bool, persistent_workers: bool = False) -> None:
        self.dataset = AugmentedDataset(num_workers)
        self.generator = torch.Generator().manual_seed(5) if own_generator else None
        self.loader: DataLoader[Any] = DataLoader(
            self.dataset,
            batch_size=8,
            shuffle=True,
            num_workers=num_workers,
            persistent_workers=persistent_workers,
            generator=self.generator,
        )

    def states(self) -> list[Any]:
        return [*random_states(), None if self.generator is None else self.generator.get_state().tolist()]


SETTINGS = pytest.mark.parametrize(
    "setting",
    [
        pytest.param({"num_workers": 0, "own_generator": False}, id="global stream"),
        pytest.param({"num_workers": 0, "own_generator": True}, id="own generator"),
        pytest.param({"num_workers": 2, "own_generator": False}, id="workers, global stream"),
        pytest.param({"num_workers": 2, "own_generator": True}, id="workers, own generator"),
        pytest.param({"num_workers": 2, "own_generator": False, "persistent_workers": True}, id="persistent workers"),
    ],
)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, criterion: nn.Module, inputs: Tensor, targets: Any
) -> None:
    loss = criterion(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def make_optimizer(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def plain_epochs(setting: Setting, model: nn.Module) -> Iterator[tuple[Tensor, list[Any]]]:
    """Train without the library; give each epoch's inputs (N, d) and the random states after it."""
    optimizer = make_optimizer(model)
    for _ in range(EPOCHS):
        seen = []
        for inputs, labels in setting.loader:
            seen.append(inputs)
            train_step(model, optimizer, nn.CrossEntropyLoss(), inputs, labels)
        yield torch.cat(seen), setting.states()


def indices_of(dataset: AugmentedDataset, inputs: Tensor) -> list[int]:
    """Which sample each row of unmixed inputs is."""
    matches = (inputs[:, None, :NUM_FEATURES] == dataset.features).all(dim=2)
    assert (matches.sum(dim=1) == 1).all()
    return matches.int().argmax(dim=1).tolist()


@SETTINGS
@pytest.mark.parametrize("num_neighbors", [0, 2])
def test_same_order_same_augmentations_same_random_states(setting: dict[str, Any], num_neighbors: int) -> None:
    seed_everything()
    plain = list(plain_epochs(Setting(**setting), make_model()))

    seed_everything()
    wrapped, model = Setting(**setting), make_model()
    loader = MixNNDataLoader(wrapped.loader, model, num_neighbors=num_neighbors, **MIXNN)
    optimizer = make_optimizer(model)
    for expected_inputs, expected_states in plain:
        expected_order = iter(zip(indices_of(wrapped.dataset, expected_inputs), expected_inputs, strict=True))
        batches = []
        for inputs, targets in loader:
            batches.append((inputs, targets))
            train_step(model, optimizer, MixNNLoss(), inputs, targets)
        assert wrapped.states() == expected_states
        draws = wrapped.dataset.draws_since_last_time()
        for inputs, targets in batches:
            for row, index, weights, neighbors in zip(
                inputs, targets.indices.tolist(), targets.weights, targets.neighbors.tolist(), strict=True
            ):
                expected_index, original = next(expected_order)
                assert index == expected_index
                assert_made_of(row, original, weights, neighbors, draws)
        assert next(expected_order, None) is None


def assert_made_of(
    mixed: Tensor, original: Tensor, weights: Tensor, neighbors: list[int], draws: dict[int, list[Tensor]]
) -> None:
    """The random features of ``mixed``: λ times the plain loader's, plus β times an augmentation of each neighbor."""
    if not neighbors:
        torch.testing.assert_close(mixed, original, rtol=0, atol=0)
        return
    candidates = (weights[0] * original[NUM_FEATURES:]).unsqueeze(0)  # (every combination, 3)
    for weight, neighbor in zip(weights[1:], neighbors, strict=True):
        augmentations = weight * torch.stack(draws[neighbor])
        candidates = (candidates[:, None] + augmentations).flatten(end_dim=1)
    assert (candidates - mixed[NUM_FEATURES:]).abs().amax(dim=1).min() < 1e-6


def test_plain_training_is_bit_identical_without_neighbors_and_correction() -> None:
    seed_everything()
    expected = make_model()
    list(plain_epochs(Setting(num_workers=0, own_generator=False), expected))

    seed_everything()
    model = make_model()
    loader = MixNNDataLoader(
        Setting(num_workers=0, own_generator=False).loader,
        model,
        num_neighbors=0,
        warmup_epochs=1,
        correction_epoch=None,
    )
    optimizer = make_optimizer(model)
    for _ in range(EPOCHS):
        for inputs, targets in loader:
            train_step(model, optimizer, MixNNLoss(), inputs, targets)

    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=0, atol=0)


def attributes(model: nn.Module) -> list[dict[str, Any]]:
    """Every attribute of every submodule: flags, hooks, which parameters and buffers there are."""
    return [
        {name: value.copy() if isinstance(value, dict) else value for name, value in vars(module).items()}
        for module in model.modules()
    ]


def without_hook(modules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    hooks = ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")
    return [{name: value for name, value in module.items() if name not in hooks} for module in modules]


def partly_frozen_model() -> nn.Sequential:
    model = make_model()
    model[0].requires_grad_(requires_grad=False)
    model[1].eval()
    return model


@BOTH_SOURCES
@pytest.mark.parametrize("prepare", [make_model, partly_frozen_model, lambda: make_model().eval()])
def test_the_model_is_left_as_it_is(neighbors: Neighbors, prepare: Any) -> None:
    model = prepare()
    model(torch.randn(5, NUM_FEATURES + NUM_DRAWS, generator=torch.Generator().manual_seed(1))).sum().backward()
    loader = MixNNDataLoader(AugmentedDataset(), model, neighbors=neighbors, batch_size=8, **MIXNN)
    attributes_before, values_before = attributes(model), copy.deepcopy(model.state_dict())
    gradients = [parameter.grad for parameter in model.parameters()]
    gradients_before = copy.deepcopy(gradients)
    gradient_flags = [parameter.requires_grad for parameter in model.parameters()]

    for _ in range(EPOCHS):
        assert attributes(model) == attributes_before
        for inputs, targets in loader:
            # The first training step is watched by a hook, which goes with the pass if there is none.
            assert without_hook(attributes(model)) == without_hook(attributes_before)
            assert not inputs.requires_grad
            assert not targets.mixed.requires_grad

    assert loader.history[-1]["phase"] == "correction"
    torch.testing.assert_close(model.state_dict(), values_before, rtol=0, atol=0)
    assert [parameter.requires_grad for parameter in model.parameters()] == gradient_flags
    for parameter, gradient, before in zip(model.parameters(), gradients, gradients_before, strict=True):
        assert parameter.grad is gradient
        assert (gradient is None) == (before is None)
        assert gradient is None or gradient.equal(before)


class BrokenDataset(AugmentedDataset):
    """Fails in the middle of a pass once it is told to."""

    broken = False

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.broken and index == 20:
            raise OSError("the disk has gone")
        return super().__getitem__(index)


def test_the_model_and_the_random_states_are_put_back_when_the_scan_fails() -> None:
    dataset, model = BrokenDataset(), partly_frozen_model()
    loader = MixNNDataLoader(dataset, model, batch_size=8, **(MIXNN | {"warmup_epochs": 0}))
    dataset.broken = True
    attributes_before, states_before = attributes(model), random_states()

    with pytest.raises(OSError, match="the disk has gone"):
        next(iter(loader))

    assert attributes(model) == attributes_before
    assert random_states() == states_before


@BOTH_SOURCES
@pytest.mark.parametrize("whole_epoch", [True, False], ids=["whole epochs", "an abandoned epoch"])
def test_nothing_holds_on_to_the_loader_or_the_model(neighbors: Neighbors, whole_epoch: bool) -> None:
    model, dataset = make_model(), AugmentedDataset()
    loader = MixNNDataLoader(dataset, model, neighbors=neighbors, batch_size=8, **MIXNN)
    for _ in range(EPOCHS):
        for _batch in loader:
            if loader.epoch == EPOCHS - 1 and not whole_epoch:
                break
    references: list[weakref.ref[Any]] = [weakref.ref(loader), weakref.ref(dataset), weakref.ref(model)]

    del loader, dataset, _batch
    gc.collect()
    assert [reference() is None for reference in references] == [True, True, False]
    del model
    gc.collect()
    assert references[-1]() is None


MODES: list[dict[str, Any]] = [
    {"warmup_epochs": 1, "correction_epoch": 2},
    {"warmup_epochs": 1, "correction_epoch": 2, "neighbors": "batch"},
    {"warmup_epochs": 1, "correction_epoch": 2, "neighbors": "random", "scan": "running", "num_neighbors": 2},
    recipes.robust(epochs=4),
]


@pytest.mark.parametrize("settings", MODES, ids=["dataset", "batch", "random", "robust"])
def test_what_a_loop_does_to_its_targets_after_a_step_changes_nothing(settings: dict[str, Any]) -> None:
    def run(spoiled: str | None) -> list[Tensor]:
        torch.manual_seed(0)
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        generator = torch.Generator().manual_seed(1)
        loader = MixNNDataLoader(DataLoader(Points(), 8, shuffle=True, generator=generator), model, **settings)
        for _ in range(4):
            for batch in loader:
                loss = MixNNLoss()(model(batch.inputs), batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if spoiled is not None:
                    getattr(batch.targets, spoiled).zero_()
        return [loader.losses, loader.soft_targets, loader.clean_probability, loader.given_labels]

    expected = run(None)
    for spoiled in ("groups", "labels", "weights", "soft_targets"):
        for value, known in zip(run(spoiled), expected, strict=True):
            torch.testing.assert_close(value, known, rtol=0, atol=0, equal_nan=True)
