"""The loader against an independent NumPy reference of Algorithm 1, over several epochs of real training.

The model's answers are recomputed by matrix algebra from snapshots of its weights, so that the reference shares
nothing with the library but the snapshots, the batches' indices and, where scikit-learn's posterior is too loose for
the comparison, P(clean).
"""

import copy
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from integration.reference import (
    MISSING,
    Floats,
    Integers,
    LastAnswers,
    Mixed,
    Reference,
    Schedule,
    clean_posteriors,
    cross_entropies,
    nearest,
    one_hot,
    softmax,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset, WeightedRandomSampler
from toy import tensors_of

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss, MixNNTargets
from mixnn_loader.method.early_learning import EarlyLearning

NUM_SAMPLES, NUM_FEATURES, NUM_CLASSES = 242, 6, 3
BATCH_SIZE = 60  # the last batch has 2 samples
EPOCHS = 5
POOL = 5
TOLERANCE = 1e-5

Weights = dict[str, Floats]


def make_dataset(dtype: torch.dtype = torch.float32, separation: float = 2.0) -> TensorDataset:
    """Three clusters, 30 % of the labels wrong."""
    rng = np.random.default_rng(7)
    classes = np.arange(NUM_SAMPLES) % NUM_CLASSES
    samples = separation * np.eye(NUM_CLASSES, NUM_FEATURES)[classes] + rng.normal(size=(NUM_SAMPLES, NUM_FEATURES))
    wrong = rng.random(NUM_SAMPLES) < 0.3
    labels = np.where(wrong, (classes + rng.integers(1, NUM_CLASSES, NUM_SAMPLES)) % NUM_CLASSES, classes)
    return TensorDataset(torch.tensor(samples, dtype=dtype), torch.tensor(labels))


def make_model(dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Sequential:
    """A model whose eval-mode answers differ from its train-mode ones."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(NUM_FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, NUM_CLASSES)
        ).to(dtype)


def make_optimizer(model: nn.Module) -> torch.optim.SGD:
    """Mild enough that no P(clean) runs out of float32's range, where a ratio of two means nothing."""
    return torch.optim.SGD(model.parameters(), lr=0.03)


def snapshot(model: nn.Module) -> Weights:
    return {name: tensor.double().numpy().copy() for name, tensor in model.state_dict().items()}


def answer(weights: Weights, samples: Floats) -> tuple[Floats, Floats]:
    """What `make_model`'s model says in eval mode: logits (B, C) and representations (B, 16)."""
    hidden = samples @ weights["0.weight"].T + weights["0.bias"]
    scale = weights["1.weight"] / np.sqrt(weights["1.running_var"] + 1e-5)
    representations = np.maximum((hidden - weights["1.running_mean"]) * scale + weights["1.bias"], 0)
    return representations @ weights["4.weight"].T + weights["4.bias"], representations


@dataclass
class Step:
    """One mini-batch as the library gave it."""

    weights_before: Weights
    batch: MixNNBatch
    logits: Tensor
    loss: float


@dataclass
class Epoch:
    """One epoch as the library went through it; what the loader shows is copied at the epoch's end."""

    number: int
    weights_at_scan: Weights
    steps: list[Step]
    losses: Tensor
    clean_probability: Tensor
    neighbor_indices: Tensor
    soft_targets: Tensor
    entry: dict[str, Any]


def train(loader: MixNNDataLoader, model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> list[Epoch]:
    """The user's loop, with everything written down. The batches are kept, not copied: they must not change."""
    criterion = MixNNLoss()
    record = []
    for _ in range(epochs):
        weights_at_scan = snapshot(model)
        batches = iter(loader)
        steps = []
        while True:
            weights_before = snapshot(model)
            batch = next(batches, None)
            if batch is None:
                break
            logits = model(batch.inputs)
            loss = criterion(logits, batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.append(Step(weights_before, batch, logits.detach(), loss.item()))
        state = (loader.losses, loader.clean_probability, loader.neighbor_indices, loader.soft_targets)
        entry = dict(loader.history[-1])
        record.append(Epoch(entry["epoch"], weights_at_scan, steps, *copy.deepcopy(state), entry))
    return record


def make_reference(dataset: TensorDataset, **arguments: Any) -> Reference:
    samples, labels = dataset.tensors
    uniform = arguments.get("weighting") == "uniform"
    hyper_parameters = ("num_neighbors", "warmup_epochs", "correction_epoch", "momentum", "early_learning")
    return Reference(
        samples.double().numpy(),
        labels.numpy(),
        NUM_CLASSES,
        uniform=uniform,
        doubt=arguments.get("weighting") == "doubt",
        **{name: arguments[name] for name in hyper_parameters if name in arguments},
    )


def assert_close(actual: Tensor, expected: Floats | Integers, tolerance: float = TOLERANCE) -> None:
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=tolerance)


def assert_same_neighbors(actual: Tensor, expected: Integers) -> None:
    """A missing neighbor may have any index: its weight is zero, which is compared with the weights."""
    assert actual.shape == expected.shape
    found = expected != MISSING
    np.testing.assert_array_equal(actual.numpy()[found], expected[found])


FindNeighbors = Callable[[Integers, Floats, Step, int], Integers]
"""(everyone's `POOL` nearest, representations of the batch, the batch, K) -> the neighbors (B, K) as they must be."""


def check_step(step: Step, expected: Mixed, reference: Reference) -> None:
    inputs, targets = step.batch
    indices = targets.indices.numpy()
    np.testing.assert_array_equal(targets.labels.numpy(), reference.labels[indices])
    assert_same_neighbors(targets.neighbors, expected.neighbors)
    assert_close(targets.weights, expected.weights)
    assert_close(targets.mixed, expected.targets)
    assert_close(inputs, expected.inputs)
    present = expected.weights > 0
    assert_close(targets.soft_targets[torch.from_numpy(present)], expected.soft_targets[present])
    assert step.loss == pytest.approx(expected.losses(step.logits.double().numpy()).mean(), abs=TOLERANCE)


def make_schedule(**arguments: Any) -> Schedule:
    return Schedule(arguments.get("scan") == "running", arguments.get("scan_every"))


def answers_known(
    epochs: list[Epoch], reference: Reference, schedule: Schedule
) -> Iterator[tuple[LastAnswers, LastAnswers]]:
    """For each epoch past warm-up: what is known of every sample when it starts, and when it is over."""
    everyone = np.arange(NUM_SAMPLES)
    for past_warmup, epoch in enumerate(epochs[reference.warmup_epochs :]):
        if schedule.scans(past_warmup):
            logits, representations = answer(epoch.weights_at_scan, reference.samples)
            known = LastAnswers(reference.given_label_losses(logits, everyone), representations)
        at_start = copy.deepcopy(known)
        for step in epoch.steps if schedule.running else ():
            indices = step.batch.targets.indices.numpy()
            logits, representations = answer(step.weights_before, reference.samples[indices])
            losses = reference.given_label_losses(logits, indices)
            known.take(indices, losses, representations if schedule.every is None else None)
        yield at_start, copy.deepcopy(known)


def check(
    epochs: list[Epoch], reference: Reference, find_neighbors: FindNeighbors, schedule: Schedule | None = None
) -> None:
    """Compare every batch of every epoch with what the reference makes of the recorded model."""
    for number, epoch in enumerate(epochs[: reference.warmup_epochs]):
        assert epoch.number == number
        for step in epoch.steps:
            indices = step.batch.targets.indices.numpy()
            check_step(step, reference.warmup_batch(indices), reference)
            reference.average(indices, softmax(step.logits.double().numpy()))
    known = answers_known(epochs, reference, schedule or Schedule())
    for number, (at_start, at_end) in enumerate(known, start=reference.warmup_epochs):
        epoch = epochs[number]
        assert epoch.number == number
        if not reference.uniform:
            assert_close(epoch.losses, at_end.losses)
            assert epoch.clean_probability.min() > 1e-30
        pools = nearest(at_start.representations, np.arange(NUM_SAMPLES), POOL)
        if find_neighbors is in_dataset:
            np.testing.assert_array_equal(epoch.neighbor_indices.numpy(), pools[:, : reference.num_neighbors])
        for step in epoch.steps:
            indices = step.batch.targets.indices.numpy()
            logits, representations = answer(step.weights_before, reference.samples[indices])
            neighbors = find_neighbors(pools, representations, step, reference.num_neighbors)
            posteriors = epoch.clean_probability.double().numpy()
            expected = reference.batch(number, indices, softmax(logits), posteriors, neighbors)
            check_step(step, expected, reference)
        assert_close(epoch.soft_targets, reference.soft_targets)


def in_dataset(pools: Integers, _: Floats, step: Step, k: int) -> Integers:
    return np.stack([pools[i, :k] for i in step.batch.targets.indices.tolist()])


def in_batch(_: Integers, of_batch: Floats, step: Step, k: int) -> Integers:
    return nearest(of_batch, step.batch.targets.indices.numpy(), k)


def in_pool(pools: Integers, _: Floats, step: Step, k: int) -> Integers:
    """Any k different ones of the nearest are right."""
    drawn = step.batch.targets.neighbors.numpy()
    for row, own in zip(drawn, step.batch.targets.indices.tolist(), strict=True):
        assert len(set(row)) == k
        assert set(row) <= set(pools[own])
    return drawn


def anywhere(pools: Integers, _: Floats, step: Step, k: int) -> Integers:
    """Any k different others of the dataset are right."""
    drawn = step.batch.targets.neighbors.numpy()
    for row, own in zip(drawn, step.batch.targets.indices.tolist(), strict=True):
        assert len(set(row)) == k
        assert set(row) <= set(range(len(pools))) - {own}
    return drawn


def anywhere_in_batch(_: Integers, of_batch: Floats, step: Step, k: int) -> Integers:
    """Any k different others of the batch are right; all of them where there are fewer."""
    found = min(k, len(of_batch) - 1)
    drawn = step.batch.targets.neighbors.numpy().copy()
    drawn[:, found:] = MISSING
    batch = step.batch.targets.indices.tolist()
    for row, own in zip(drawn, batch, strict=True):
        assert len(set(row[:found])) == found
        assert set(row[:found]) <= set(batch) - {own}
    return drawn


PAPER: dict[str, Any] = {"num_neighbors": 1, "warmup_epochs": 1, "correction_epoch": 3, "momentum": 0.9}
THREE = PAPER | {"num_neighbors": 3}
UNIFORM = THREE | {"weighting": "uniform"}
RUNNING: dict[str, Any] = {"scan": "running"}
EARLY: dict[str, Any] = {"early_learning": 3.0, "weighting": "doubt"}


@pytest.mark.parametrize(
    ("arguments", "find_neighbors"),
    [
        pytest.param(PAPER, in_dataset, id="one neighbor"),
        pytest.param(THREE | {"warmup_epochs": 2}, in_dataset, id="three neighbors"),
        pytest.param(UNIFORM | {"neighbor_pool": POOL}, in_pool, id="three of a pool"),
        pytest.param(UNIFORM | {"neighbors": "random"}, anywhere, id="random partners"),
        pytest.param(PAPER | {"correction_epoch": 0, "momentum": 0.5}, in_dataset, id="correction after warm-up"),
        pytest.param(PAPER | {"num_neighbors": 0}, in_dataset, id="no neighbors"),
        pytest.param(PAPER | {"neighbors": "batch"}, in_batch, id="one neighbor in the batch"),
        # The last batch has two samples: one neighbor is there, two are missing.
        pytest.param(THREE | {"neighbors": "batch"}, in_batch, id="three neighbors in the batch"),
        pytest.param(UNIFORM | {"neighbors": "random-batch"}, anywhere_in_batch, id="random partners in the batch"),
        pytest.param(UNIFORM | RUNNING | {"neighbor_pool": POOL}, in_pool, id="running, three of a pool"),
        pytest.param(PAPER | RUNNING | {"neighbors": "batch"}, in_batch, id="running, in the batch"),
        pytest.param(THREE | RUNNING | {"neighbors": "random"}, anywhere, id="running, random partners"),
        pytest.param(THREE | RUNNING | {"scan_every": 2}, in_dataset, id="running, every other epoch"),
        pytest.param(THREE | EARLY | {"warmup_epochs": 2}, in_dataset, id="early learning"),
        pytest.param(PAPER | EARLY | RUNNING | {"neighbors": "batch"}, in_batch, id="early learning, in the batch"),
        pytest.param(
            PAPER | EARLY | {"correction_epoch": None, "early_learning": 1.0}, in_dataset, id="early learning alone"
        ),
    ],
)
def test_every_batch_of_a_training_run(arguments: dict[str, Any], find_neighbors: FindNeighbors) -> None:
    check_training_run(arguments, find_neighbors, torch.float32)


def test_in_double_precision() -> None:
    check_training_run(THREE, in_dataset, torch.float64)


def check_training_run(arguments: dict[str, Any], find_neighbors: FindNeighbors, dtype: torch.dtype) -> None:
    dataset, model = make_dataset(dtype), make_model(dtype)
    loader = MixNNDataLoader(shuffled(dataset, torch.Generator().manual_seed(3)), model, **arguments)

    torch.manual_seed(1)  # of the dropout
    epochs = train(loader, model, make_optimizer(model), EPOCHS)

    plain = shuffled(TensorDataset(torch.arange(NUM_SAMPLES)), torch.Generator().manual_seed(3))
    assert order_of(epochs) == [[indices.tolist() for (indices,) in plain] for _ in range(EPOCHS)]
    reference = make_reference(dataset, **arguments)
    check(epochs, reference, find_neighbors, make_schedule(**arguments))
    movement = np.abs(reference.soft_targets - one_hot(reference.labels, NUM_CLASSES)).max()
    assert movement == 0 if arguments["correction_epoch"] is None else movement > 0.05


def shuffled(dataset: TensorDataset, generator: torch.Generator) -> "DataLoader[Any]":
    return DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True, generator=generator)


def order_of(epochs: list[Epoch]) -> list[list[list[int]]]:
    return [[step.batch.targets.indices.tolist() for step in epoch.steps] for epoch in epochs]


@pytest.mark.parametrize(
    ("arguments", "find_neighbors"),
    [
        pytest.param(PAPER, in_dataset, id="one neighbor in the dataset"),
        pytest.param(UNIFORM | {"neighbors": "batch"}, in_batch, id="three neighbors in the batch"),
        pytest.param(PAPER | EARLY | RUNNING, in_dataset, id="running, one neighbor in the dataset"),
        pytest.param(PAPER | RUNNING | {"neighbors": "batch"}, in_batch, id="running, one neighbor in the batch"),
    ],
)
def test_sampling_with_replacement(arguments: dict[str, Any], find_neighbors: FindNeighbors) -> None:
    dataset, model = make_dataset(), make_model()
    loader = MixNNDataLoader(dataset, model, batch_size=BATCH_SIZE, sampler=with_replacement(), **arguments)

    torch.manual_seed(1)
    epochs = train(loader, model, make_optimizer(model), EPOCHS)

    drawn = with_replacement()
    assert [[i for batch in batches for i in batch] for batches in order_of(epochs)] == [
        list(drawn) for _ in range(EPOCHS)
    ]
    assert all(len(set(batches[0])) < len(batches[0]) for batches in order_of(epochs))
    check(epochs, make_reference(dataset, **arguments), find_neighbors, make_schedule(**arguments))


def test_samples_that_are_not_drawn_keep_what_was_said_of_them() -> None:
    dataset, model, arguments = make_dataset(), make_model(), PAPER | RUNNING
    generator = torch.Generator().manual_seed(3)
    loader = MixNNDataLoader(
        DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True, generator=generator, drop_last=True),
        model,
        **arguments,
    )

    torch.manual_seed(1)
    epochs = train(loader, model, make_optimizer(model), EPOCHS)

    assert [sum(map(len, batches)) for batches in order_of(epochs)] == [NUM_SAMPLES // BATCH_SIZE * BATCH_SIZE] * EPOCHS
    check(epochs, make_reference(dataset, **arguments), in_dataset, make_schedule(**arguments))


class JitteredDataset(Dataset[tuple[Tensor, Tensor]]):
    """Every look at a sample is another one."""

    def __init__(self, dataset: TensorDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sample, label = self.dataset[index]
        return sample + torch.randn(sample.shape), label


def test_a_sample_drawn_twice_takes_one_step_towards_the_mean_of_its_predictions() -> None:
    dataset, model = make_dataset(), make_model()
    arguments = PAPER | {"num_neighbors": 0, "warmup_epochs": 0, "correction_epoch": 0}
    loader = MixNNDataLoader(
        JitteredDataset(dataset), model, batch_size=BATCH_SIZE, sampler=with_replacement(), **arguments
    )

    torch.manual_seed(1)
    epochs = train(loader, model, make_optimizer(model), 2)

    reference = make_reference(dataset, **arguments)
    for epoch in epochs:
        for step in epoch.steps:
            inputs, targets = step.batch
            probabilities = softmax(answer(step.weights_before, inputs.double().numpy())[0])
            nobody = np.zeros((len(targets), 0), dtype=np.int64)
            expected = reference.batch(
                epoch.number, targets.indices.numpy(), probabilities, np.ones(NUM_SAMPLES), nobody
            )
            assert_close(targets.mixed, expected.targets)
        assert_close(epoch.soft_targets, reference.soft_targets)


def test_of_a_sample_drawn_twice_into_a_batch_the_first_view_counts() -> None:
    dataset, model = make_dataset(), make_model()
    loader = MixNNDataLoader(
        JitteredDataset(dataset),
        model,
        batch_size=BATCH_SIZE,
        sampler=with_replacement(),
        **(PAPER | RUNNING | {"num_neighbors": 0, "warmup_epochs": 0, "correction_epoch": None}),
    )

    torch.manual_seed(1)
    (epoch,) = train(loader, model, make_optimizer(model), 1)

    reference = make_reference(dataset, **PAPER)
    known = LastAnswers(np.full(NUM_SAMPLES, np.nan), np.empty((NUM_SAMPLES, 0)))
    for step in epoch.steps:
        logits, _ = answer(step.weights_before, step.batch.inputs.double().numpy())
        indices = step.batch.targets.indices.numpy()
        known.take(indices, reference.given_label_losses(logits, indices), None)
    drawn = np.flatnonzero(~np.isnan(known.losses))
    assert 0 < len(drawn) < NUM_SAMPLES
    assert_close(epoch.losses[drawn], known.losses[drawn])


def with_replacement() -> WeightedRandomSampler:
    weights = (torch.arange(NUM_SAMPLES) % 4 == 0).double() + 0.2
    return WeightedRandomSampler(weights.tolist(), NUM_SAMPLES, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("scan", [{}, RUNNING, RUNNING | {"scan_every": 2}], ids=str)
def test_posteriors_are_those_of_scikit_learn(scan: dict[str, Any]) -> None:
    dataset, model, arguments = make_dataset(separation=6.0), make_model(), PAPER | scan
    loader = MixNNDataLoader(dataset, model, batch_size=BATCH_SIZE, **arguments)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    torch.manual_seed(1)
    epochs = train(loader, model, optimizer, EPOCHS)

    known = answers_known(epochs, make_reference(dataset, **arguments), make_schedule(**arguments))
    for epoch, (at_start, _) in zip(epochs[1:], known, strict=True):
        expected = clean_posteriors(at_start.losses)
        assert 0.2 < (expected < 0.5).mean() < 0.5
        assert_close(epoch.clean_probability, expected, tolerance=1e-3)


def make_shuffler(shuffling: str, seed: int) -> dict[str, Any]:
    """DataLoader arguments that shuffle from one of the three places a random state can be in."""
    match shuffling:
        case "loader":
            return {"shuffle": True, "generator": torch.Generator().manual_seed(seed)}
        case "sampler":
            generator = torch.Generator().manual_seed(seed)
            return {"sampler": RandomSampler(range(NUM_SAMPLES), generator=generator)}
        case _:
            return {"shuffle": True}


@pytest.mark.parametrize(
    ("stop", "shuffling", "arguments"),
    [
        pytest.param(1, "loader", PAPER, id="after warm-up"),
        pytest.param(4, "global", PAPER, id="during the correction"),
        pytest.param(4, "loader", THREE | {"weighting": "beta", "neighbor_pool": POOL}, id="drawn from a pool"),
        pytest.param(4, "loader", UNIFORM | {"neighbors": "random-batch"}, id="random partners in the batch"),
        pytest.param(1, "loader", PAPER | RUNNING, id="before the only scan"),
        pytest.param(4, "global", PAPER | RUNNING | {"neighbors": "batch"}, id="running, in the batch"),
        pytest.param(4, "loader", PAPER | {"scan_every": 2, "neighbors": "random"}, id="between, random partners"),
        pytest.param(2, "sampler", THREE | RUNNING | {"scan_every": 2}, id="running, between two scans"),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one(stop: int, shuffling: str, arguments: dict[str, Any]) -> None:
    def begin(seed: int) -> tuple[MixNNDataLoader, nn.Module, torch.optim.Optimizer]:
        model = make_model(seed=seed)
        data_loader = DataLoader(make_dataset(), batch_size=BATCH_SIZE, **make_shuffler(shuffling, seed))
        torch.manual_seed(seed)
        return MixNNDataLoader(data_loader, model, **arguments), model, make_optimizer(model)

    uninterrupted = train(*begin(seed=3), EPOCHS)

    loader, model, optimizer = begin(seed=3)
    first_part = train(loader, model, optimizer, stop)
    file = io.BytesIO()
    saved = {"loader": loader.state_dict(), "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(saved | {"random": torch.get_rng_state()}, file)

    loader, model, optimizer = begin(seed=4)
    loaded = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    loader.load_state_dict(loaded["loader"])
    model.load_state_dict(loaded["model"])
    optimizer.load_state_dict(loaded["optimizer"])
    torch.set_rng_state(loaded["random"])
    resumed = first_part + train(loader, model, optimizer, EPOCHS - stop)

    assert [without_seconds(entry) for entry in loader.history] == [without_seconds(e.entry) for e in uninterrupted]
    for epoch, expected in zip(resumed, uninterrupted, strict=True):
        assert_identical(contents(epoch), contents(expected))


def without_seconds(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if not name.endswith("seconds")}


def contents(epoch: Epoch) -> list[Any]:
    """All that an epoch gave, as numbers and tensors."""
    steps = [[step.batch.inputs, *tensors_of(step.batch.targets).values(), step.loss] for step in epoch.steps]
    return [epoch.number, steps, epoch.losses, epoch.clean_probability, epoch.neighbor_indices, epoch.soft_targets]


def assert_identical(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 4), st.integers(2, 6), st.sampled_from([None, 0.7]))
def test_the_early_learning_term_is_that_of_numpy(
    seed: int, batch_size: int, num_neighbors: int, num_classes: int, momentum: float | None
) -> None:
    rng = np.random.default_rng(seed)
    logits = 5 * rng.normal(size=(batch_size, num_classes))
    kept = rng.dirichlet(np.ones(num_classes), (batch_size, num_neighbors + 1)) * rng.uniform(size=(batch_size, 1, 1))
    weights = rng.dirichlet(np.ones(num_neighbors + 1), batch_size)
    mixed = Mixed(
        neighbors=np.zeros((batch_size, num_neighbors), dtype=np.int64),
        weights=weights,
        soft_targets=rng.dirichlet(np.ones(num_classes), (batch_size, num_neighbors + 1)),
        inputs=np.zeros((batch_size, 1)),
        targets=np.zeros((batch_size, num_classes)),
        averages=np.einsum("bk,bkc->bc", weights, kept),
        strength=3.0,
        momentum=momentum,
    )
    early_learning = EarlyLearning(torch.from_numpy(kept), 3.0, momentum)
    targets = replace(targets_of(mixed), early_learning=early_learning)
    leaf = torch.from_numpy(logits).requires_grad_()

    losses = MixNNLoss(reduction="none")(leaf, targets)
    term = mixed.losses(logits) - cross_entropies(logits, mixed.targets)
    assert_close(losses.detach(), mixed.losses_in_two_terms(logits) + term, tolerance=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 4), st.integers(2, 6))
def test_the_loss_is_equation_7_in_two_terms(seed: int, batch_size: int, num_neighbors: int, num_classes: int) -> None:
    rng = np.random.default_rng(seed)
    logits = 5 * rng.normal(size=(batch_size, num_classes))
    mixed = Mixed(
        neighbors=np.zeros((batch_size, num_neighbors), dtype=np.int64),
        weights=rng.dirichlet(np.ones(num_neighbors + 1), batch_size),
        soft_targets=rng.dirichlet(np.ones(num_classes), (batch_size, num_neighbors + 1)),
        inputs=np.zeros((batch_size, 1)),
        targets=np.zeros((batch_size, num_classes)),
        averages=np.zeros((batch_size, num_classes)),
        strength=0.0,
        momentum=None,
    )
    targets = targets_of(mixed)
    expected = mixed.losses_in_two_terms(logits)
    leaf = torch.from_numpy(logits).requires_grad_()

    assert_close(MixNNLoss(reduction="none")(leaf, targets).detach(), expected, tolerance=1e-6)
    loss = MixNNLoss()(leaf, MixNNBatch(torch.zeros(batch_size, 1), targets))
    assert loss.item() == pytest.approx(expected.mean(), abs=1e-6)
    loss.backward()
    assert leaf.grad is not None
    assert_close(leaf.grad, gradient(mixed, logits), tolerance=1e-6)


def targets_of(mixed: Mixed) -> MixNNTargets:
    batch_size = len(mixed.weights)
    return MixNNTargets(
        soft_targets=torch.from_numpy(mixed.soft_targets),
        weights=torch.from_numpy(mixed.weights),
        labels=torch.zeros(batch_size, dtype=torch.int64),
        groups=torch.cat([torch.arange(batch_size).unsqueeze(1), torch.from_numpy(mixed.neighbors)], dim=1),
    )


def gradient(mixed: Mixed, logits: Floats) -> Floats:
    """Of the mean of Eq. 7 in two terms, by central differences: (B, C)."""
    step = 1e-4
    slopes = np.zeros_like(logits)
    for place in np.ndindex(*logits.shape):
        ahead, behind = logits.copy(), logits.copy()
        ahead[place] += step
        behind[place] -= step
        difference = mixed.losses_in_two_terms(ahead).mean() - mixed.losses_in_two_terms(behind).mean()
        slopes[place] = difference / (2 * step)
    return slopes
