"""A loader that goes by the training step itself, against NumPy: it makes no forward pass of its own."""

import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from integration.reference import Floats, Integers, Reference, cross_entropies, one_hot, softmax
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from toy import NUM_CLASSES, NUM_FEATURES, Points, mlp

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss

EPOCHS, WARMUP, CORRECTION = 6, 2, 4
BASIS: dict[str, Any] = {
    "warmup_epochs": WARMUP,
    "correction_epoch": CORRECTION,
    "scan": "training",
    "neighbors": "random-batch",
    "num_classes": NUM_CLASSES,
}
BY_AGREEMENT: dict[str, Any] = BASIS | {
    "weighting": "mixup",
    "credibility": "agreement",
    "correct_by": "credibility",
    "early_learning": 3.0,
}
BY_LOSSES: dict[str, Any] = BASIS | {"weighting": "doubt", "num_neighbors": 2, "early_learning": 1.0}


class Watched(nn.Module):
    """Counts its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.model = mlp()
        self.passes = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.passes += 1
        logits: Tensor = self.model(inputs)
        return logits


def make(model: nn.Module, *, replacement: bool = False, **arguments: Any) -> MixNNDataLoader:
    points = Points(60)
    sampler = RandomSampler(points, replacement, generator=torch.Generator().manual_seed(1))
    return MixNNDataLoader(DataLoader(points, 16, sampler=sampler), model, **arguments)


def steps(loader: MixNNDataLoader, model: nn.Module, epochs: int) -> Iterator[tuple[int, MixNNBatch, Floats, float]]:
    """The user's loop: (epoch, batch, logits of the training step, loss) of each."""
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.1), MixNNLoss()
    for epoch in range(epochs):
        for batch in loader:
            logits = model(batch.inputs)
            loss = criterion(logits, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield epoch, batch, logits.detach().double().numpy(), loss.item()


class Expected(Reference):
    """What the loader knows, by the logits of the training steps."""

    def __init__(self, **arguments: Any) -> None:
        points = Points(60)
        super().__init__(
            points.inputs.double().numpy(),
            points.labels.numpy(),
            NUM_CLASSES,
            num_neighbors=arguments.get("num_neighbors", 1),
            warmup_epochs=WARMUP,
            correction_epoch=CORRECTION,
            momentum=0.9,
            early_learning=arguments["early_learning"],
        )
        self.last_losses = np.full(60, np.nan)
        self.moves = "correct_by" not in arguments

    def agreement(self) -> Floats:
        """P of everybody who has been drawn."""
        most = self.averages.max(axis=1)
        own = self.averages[np.arange(60), self.labels]
        return np.array([max(o / m, 1e-4) if m > 0 else np.nan for o, m in zip(own, most, strict=True)])

    def correct_all(self, posteriors: Floats) -> None:
        """Put what was predicted in place of labels as far as they are not credible."""
        for i, (average, credible) in enumerate(zip(self.averages, posteriors, strict=True)):
            given = one_hot(self.labels[i : i + 1], NUM_CLASSES)[0]
            if average.sum() == 0:
                continue
            likely = average**2 / (average**2).sum()
            self.soft_targets[i] = credible * given + (1 - credible) * likely

    def take(self, epoch: int, indices: Integers, weights: Floats, logits: Floats) -> None:
        """Take in a training step, of the samples that make up half of all their mixes or more."""
        counts = np.array([all(weights[j, 0] >= 0.5 for j in np.flatnonzero(indices == i)) for i in indices])
        if not counts.any():
            return
        drawn, probabilities = indices[counts], softmax(logits[counts])
        self.average(drawn, probabilities)
        if self.moves:
            self.correct(epoch, drawn, probabilities)
        losses = cross_entropies(logits[counts], one_hot(self.labels[drawn], NUM_CLASSES))
        for i, loss in zip(drawn[::-1], losses[::-1], strict=True):  # of a sample drawn twice the first counts
            self.last_losses[i] = loss


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("arguments", [BY_AGREEMENT, BY_LOSSES], ids=["by agreement", "by losses"])
def test_everything_follows_from_the_training_steps(arguments: dict[str, Any], replacement: bool) -> None:
    torch.manual_seed(0)
    model = Watched()
    loader = make(model, replacement=replacement, **arguments)
    expected, epoch_before, count, tried = Expected(**arguments), -1, 0, 0

    for epoch, batch, logits, loss in steps(loader, model, EPOCHS):
        count += 1
        if count == 1:
            tried = model.passes - 1  # what comes late is tried on the first batch
        if epoch != epoch_before and epoch >= WARMUP and "credibility" in arguments:
            posteriors = expected.agreement()
            np.testing.assert_allclose(loader.clean_probability, posteriors, atol=1e-5)
            if epoch >= CORRECTION:
                expected.correct_all(posteriors)
        epoch_before = epoch
        targets = batch.targets
        indices, weights = targets.indices.numpy(), targets.weights.double().numpy()
        mixed = expected.mix(indices, targets.neighbors.numpy(), weights)
        mixed.momentum = expected.prediction_momentum
        np.testing.assert_allclose(targets.soft_targets, mixed.soft_targets, atol=1e-5)
        np.testing.assert_allclose(batch.inputs, mixed.inputs, atol=1e-5)
        assert loss == pytest.approx(mixed.losses(logits).mean(), abs=1e-5)
        expected.take(epoch, indices, weights, logits)

    np.testing.assert_allclose(loader.losses, expected.last_losses, atol=1e-4)
    np.testing.assert_allclose(loader.soft_targets, expected.soft_targets, atol=1e-5)
    assert model.passes == tried + count
    assert [record["scan"] for record in loader.history] == [None] * WARMUP + ["training"] * (EPOCHS - WARMUP)
    movement = np.abs(expected.soft_targets - one_hot(expected.labels, NUM_CLASSES)).max()
    assert movement > 0.05


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_resumed_run_is_the_uninterrupted_one(stop: int) -> None:
    def run(loader: MixNNDataLoader, model: nn.Module, epochs: int) -> list[float]:
        return [loss for *_, loss in steps(loader, model, epochs)]

    torch.manual_seed(0)
    whole_model = mlp()
    whole = run(make(whole_model, **BY_AGREEMENT), whole_model, EPOCHS)

    torch.manual_seed(0)
    model = mlp()
    loader = make(model, **BY_AGREEMENT)
    losses = run(loader, model, stop)
    file = io.BytesIO()
    torch.save((loader.state_dict(), model.state_dict(), torch.get_rng_state()), file)
    torch.manual_seed(5)
    file.seek(0)
    state, weights, random_state = torch.load(file)
    model = mlp(seed=3)
    model.load_state_dict(weights)
    loader = make(model, **BY_AGREEMENT)
    loader.load_state_dict(state)
    torch.set_rng_state(random_state)
    assert losses + run(loader, model, EPOCHS - stop) == whole


def test_a_loss_of_ones_own_is_found_out() -> None:
    model = mlp()
    batches = iter(make(model, **BY_AGREEMENT))
    inputs, targets = next(batches)
    torch.autograd.backward(nn.functional.cross_entropy(model(inputs), targets.mixed))
    with pytest.raises(RuntimeError, match=r"scan='training' goes by the logits that MixNNLoss is given.*'running'"):
        next(batches)


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(NUM_FEATURES, 8), nn.ReLU(), nn.Linear(8, NUM_CLASSES))


def by_hand(loader: MixNNDataLoader, model: nn.Sequential, epochs: int = 1) -> None:
    """Train without a call of the model or of MixNNLoss: as of a compiled step, nothing is seen of it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(epochs):
        for inputs, targets in loader:
            hidden = inputs
            for layer in model:
                hidden = layer(hidden)
            torch.autograd.backward(nn.functional.cross_entropy(hidden, targets.mixed))
            optimizer.step()
            optimizer.zero_grad()


def test_a_step_that_is_not_seen_and_does_not_tell_is_found_out_after_an_epoch() -> None:
    model = two_layers()
    with pytest.raises(RuntimeError, match="scan='training' goes by the logits that MixNNLoss is given"):
        by_hand(make(model, **BY_AGREEMENT), model, epochs=2)
    model = two_layers()
    loader = MixNNDataLoader(Points(), model, batch_size=8, early_learning=3.0)
    with pytest.warns(UserWarning, match=r"averages of predictions are wanted, .* MixNNLoss") as caught:
        by_hand(loader, model, epochs=2)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "averages")
        by_hand(make(model), model, epochs=2)  # does not need to be told


def test_a_model_that_others_change_is_no_sign_of_a_step() -> None:
    model = mlp()
    loader = make(model, **BY_AGREEMENT)
    list(loader)  # a look
    model.load_state_dict(mlp(seed=3).state_dict())
    assert len(list(steps(loader, model, 2))) == 8


def test_where_nothing_was_told_the_next_epoch_scans() -> None:
    loader = make(mlp(), **BY_AGREEMENT)
    for _ in range(WARMUP + 1):
        list(loader)
    assert loader.history[-1]["scan"] == "epoch"


def test_averages_that_nobody_tells_of_are_warned_of() -> None:
    model = mlp()
    loader = MixNNDataLoader(Points(), model, batch_size=8, early_learning=3.0)
    batches = iter(loader)
    inputs, targets = next(batches)
    torch.autograd.backward(nn.functional.cross_entropy(model(inputs), targets.mixed))
    with pytest.warns(UserWarning, match=r"averages of predictions are wanted, .* MixNNLoss"):
        next(batches)


@pytest.mark.parametrize("ahead", [1, 3])
def test_batches_that_are_fetched_ahead_tell_later(ahead: int) -> None:
    torch.manual_seed(0)
    model = mlp()
    loader = make(model, **BY_AGREEMENT)
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.1), MixNNLoss()
    for _ in range(WARMUP + 1):
        waiting: list[MixNNBatch] = []
        batches = iter(loader)
        while (batch := next(batches, None)) is not None or waiting:
            if batch is not None:
                waiting.append(batch)
            if batch is None or len(waiting) > ahead:
                inputs, targets = waiting.pop(0)
                optimizer.zero_grad()
                torch.autograd.backward(criterion(model(inputs), targets))
                optimizer.step()
    averages = loader.state_dict()["samples"]["averages"]
    assert (averages.sum(dim=1) > 0).float().mean() > 0.9


def test_what_is_told_after_the_last_batch_counts_in_the_next_epoch() -> None:
    torch.manual_seed(0)
    model = mlp()
    loader = make(model, **BY_AGREEMENT | {"warmup_epochs": 1})
    for inputs, targets in list(loader):
        torch.autograd.backward(MixNNLoss()(model(inputs), targets))
    list(loader)
    assert [record["scan"] for record in loader.history] == [None, "training"]
    assert loader.clean_probability.isfinite().all()


def test_what_is_done_to_the_logits_after_the_loss_changes_nothing() -> None:
    def averages(*, spoil: bool) -> Tensor:
        model = mlp()
        torch.manual_seed(0)
        loader = make(model, **BY_AGREEMENT)
        for inputs, targets in loader:
            logits = model(inputs)
            torch.autograd.backward(MixNNLoss()(logits, targets))
            if spoil:
                logits.detach().zero_()
        kept: Tensor = loader.state_dict()["samples"]["averages"]
        return kept

    assert torch.equal(averages(spoil=True), averages(spoil=False))


@pytest.mark.parametrize(
    "arguments", [{"neighbors": "batch"}, {"neighbors": "dataset"}, {"neighbors": "dataset", "neighbor_pool": 3}]
)
def test_neighbors_that_are_found_by_representations_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"scan='training' gives no representations.*neighbors='random-batch'"):
        MixNNDataLoader(Points(), mlp(), scan="training", **arguments)


def test_without_warm_up_the_first_epoch_scans() -> None:
    model = mlp()
    loader = make(model, **BY_AGREEMENT | {"warmup_epochs": 0})
    for _ in steps(loader, model, 2):
        pass
    assert [record["scan"] for record in loader.history] == ["epoch", "training"]
