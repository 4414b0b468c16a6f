"""Warm-up that ends when the model has settled: the training steps tell, whoever looks at them."""

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from integration.processes import results_of
from integration.reference import Floats, Integers, clipped, softmax
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler
from toy import NUM_CLASSES, NUM_FEATURES, Points

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss
from mixnn_loader._utils.warn_once import WarnOnce
from mixnn_loader.method.credibility import AgreementCredibility, Estimate, Evidence

NUM_SAMPLES, EPOCHS, MOST = 60, 80, 10
BASIS: dict[str, Any] = {
    "epochs": EPOCHS,
    "warmup_epochs": "settled",
    "correction_epoch": 0,
    "neighbors": "random-batch",
    "scan": "training",
    "weighting": "mixup",
    "credibility": "agreement",
    "correct_by": "credibility",
    "early_learning": 3.0,
    "num_classes": NUM_CLASSES,
}

BY_LOSSES: dict[str, Any] = {
    "early_learning": 0.0,
    "scan": "epoch",
    "neighbors": "batch",
    "weighting": "mixture",
    "credibility": "mixture",
    "correct_by": "prediction",
}
"""In place of some of these: nothing needs averages of predictions but the end of warm-up."""


class Training:
    """The user's loop with a network that does not settle at once."""

    def __init__(self, lr: float = 0.03, *, batch_size: int = 12, sampler: Any = None, **arguments: Any) -> None:
        torch.manual_seed(1)
        self.model = nn.Linear(NUM_FEATURES, NUM_CLASSES)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)
        points, order = Points(NUM_SAMPLES), torch.Generator().manual_seed(2)
        wrapped = DataLoader(points, batch_size, shuffle=None if sampler else True, sampler=sampler, generator=order)
        self.loader = MixNNDataLoader(wrapped, self.model, **BASIS | arguments)

    def epoch(self) -> Iterator[tuple[MixNNBatch, Tensor]]:
        """Train an epoch: each batch, and the logits that the loss was taken of."""
        for batch in self.loader:
            logits = self.model(batch.inputs)
            self.optimizer.zero_grad()
            MixNNLoss()(logits, batch).backward()
            self.optimizer.step()
            yield batch, logits.detach()

    def train(self, epochs: int) -> None:
        """Train epochs."""
        for _ in range(epochs):
            for _ in self.epoch():
                pass

    @property
    def phases(self) -> list[str]:
        """What the epochs have done."""
        return [record["phase"] for record in self.loader.history]

    @property
    def shares(self) -> list[float | None]:
        """How many predictions changed, by epoch."""
        return [record["changed_share"] for record in self.loader.history]


class Averages:
    """Averages of predictions in NumPy, one sample at a time."""

    def __init__(self) -> None:
        self.rows: dict[int, Floats] = {}
        self.changes: list[bool] = []

    def take(self, indices: Integers, logits: Floats) -> None:
        """Take in a batch."""
        for i, row in zip(indices.tolist(), clipped(softmax(logits)), strict=True):
            before = self.rows.get(i, np.zeros(NUM_CLASSES))
            self.rows[i] = 0.7 * before + 0.3 * row / row.sum()
            if before.any():
                self.changes.append(before.argmax() != self.rows[i].argmax())

    def share(self) -> float | None:
        """Return the share of changes since it was last asked for."""
        changes, self.changes = self.changes, []
        return float(np.mean(changes)) if changes else None


@pytest.mark.parametrize("lr", [0.02, 0.03, 0.1])
def test_it_ends_when_few_predictions_change(lr: float) -> None:
    training, expected = Training(lr), Averages()
    shares: list[float | None] = []
    for _ in range(MOST):
        for batch, logits in training.epoch():
            expected.take(batch.targets.indices.numpy(), logits.double().numpy())
        shares.append(expected.share())
    known = [0.0, *(share for share in shares[1:] if share is not None)]
    most = np.maximum.accumulate(known)
    num_epochs = 1 + next(
        epoch
        for epoch in range(2, MOST)
        if most[epoch - 1] >= 0.15
        and known[epoch] <= most[epoch - 1] / 2
        and (known[epoch] < 0.15 or known[epoch] > 0.9 * known[epoch - 1])
    )
    assert 3 <= num_epochs < MOST, "the toy shows nothing"
    assert training.shares[:num_epochs] == shares[:num_epochs]
    assert training.shares[num_epochs:] == [None] * (MOST - num_epochs), "it is looked at in warm-up alone"
    assert training.phases == ["warm-up"] * num_epochs + ["correction"] * (MOST - num_epochs)
    assert f"warm-up {num_epochs}, correction from epoch {num_epochs}" in repr(training.loader)


def test_a_sample_that_is_drawn_twice_in_the_first_epoch_tells_nothing() -> None:
    order = RandomSampler(Points(NUM_SAMPLES), replacement=True, generator=torch.Generator().manual_seed(3))
    training = Training(sampler=order)
    training.train(2)
    first, second = training.shares
    assert first is None
    assert second is not None


def test_it_ends_at_the_latest_after_an_eighth_of_the_training() -> None:
    training = Training(lr=0.0, epochs=24)
    torch.nn.init.zeros_(training.model.weight)
    for epoch in range(4):  # the model never makes up its mind
        with torch.no_grad():
            training.model.bias.copy_((20.0 + epoch) * nn.functional.one_hot(torch.tensor(epoch % 3), NUM_CLASSES))
        training.train(1)
        assert ("at most 3" in repr(training.loader)) == (epoch < 2)
    assert training.shares[1] == training.shares[2] == 1
    assert training.phases == ["warm-up"] * 3 + ["correction"]


def test_a_model_that_has_hardly_begun_to_learn_has_not_settled() -> None:
    training = Training()
    for epoch in range(6):
        for group in training.optimizer.param_groups:
            group["lr"] = 0.0005 if epoch < 3 else 0.02  # as in a warm-up of the learning rate
        training.train(1)
    assert all(share is not None and share < 0.05 for share in training.shares[1:3]), "the toy shows nothing"
    assert training.phases.count("warm-up") >= 5


def test_averages_are_kept_in_warm_up_alone_where_nothing_else_needs_them() -> None:
    training = Training(**BY_LOSSES)
    training.train(1)
    assert training.loader.state_dict()["samples"]["averages"] is not None
    training.train(MOST - 1)
    assert 1 < training.phases.index("correction") < MOST
    assert training.loader.state_dict()["samples"]["averages"] is None


def test_scans_and_progress_are_counted_from_where_it_ended() -> None:
    training = Training(credibility="vote", scan_every=4)
    training.train(12)
    ended = training.phases.count("warm-up")
    assert ended < MOST
    scanned = [record["epoch"] for record in training.loader.history if record["scan"] == "epoch"]
    assert scanned == list(range(ended, 12, 4))


def test_progress_grows_from_where_it_ended() -> None:
    told: list[float] = []

    class Told(AgreementCredibility):
        def estimate(self, evidence: Evidence, warn: WarnOnce) -> Estimate:
            told.append(evidence.progress)
            return super().estimate(evidence, warn)

    training = Training(credibility=Told())
    training.train(8)
    ended = training.phases.count("warm-up")
    assert told[1:] == [(epoch - ended) / (EPOCHS - ended) for epoch in range(ended, 8)], "the first is a rehearsal"


@pytest.mark.parametrize("sets_epoch", [False, True])
@pytest.mark.parametrize("after", [3, 4, 5, 8, 9, 10, 14])
def test_a_run_that_is_resumed_ends_it_at_the_same_place(after: int, sets_epoch: bool) -> None:
    whole = Training()
    state: dict[str, Any] = {}
    for number, _ in enumerate(batch for _ in range(6) for batch in whole.epoch()):
        if number == after:
            state = copy.deepcopy({"loader": whole.loader.state_dict(), "model": whole.model.state_dict()})
    assert 1 < whole.phases.count("warm-up") < 6
    resumed = Training()
    resumed.model.load_state_dict(state["model"])
    resumed.loader.load_state_dict(state["loader"])
    for epoch in range(after // 5 if sets_epoch else resumed.loader.epoch, 6):
        if sets_epoch:
            resumed.loader.set_epoch(epoch)
        resumed.train(1)
    assert (resumed.phases, resumed.shares) == (whole.phases, whole.shares)


def test_a_run_that_has_mixed_does_not_go_back_to_warm_up() -> None:
    before = Training(warmup_epochs=2)
    before.train(3)
    after = Training()
    after.model.load_state_dict(before.model.state_dict())
    after.loader.load_state_dict(before.loader.state_dict())
    after.train(2)
    assert after.phases == ["warm-up"] * 2 + ["correction"] * 3


def test_a_model_that_is_put_back_has_its_warm_up_again() -> None:
    training = Training()
    start = {name: values.clone() for name, values in training.model.state_dict().items()}
    training.train(6)
    ended = training.phases.count("warm-up")
    assert ended < 6
    training.model.load_state_dict(start)
    training.train(1)
    assert training.phases == ["warm-up"]
    assert training.shares == [None], "what was predicted before is forgotten"


def test_it_says_when(caplog: pytest.LogCaptureFixture) -> None:
    training = Training()
    with caplog.at_level(logging.INFO, logger="mixnn_loader"):
        training.train(6)
    number, share = training.phases.count("warm-up"), training.shares[training.phases.count("warm-up") - 1]
    assert share is not None
    before, after = [message for message in caplog.messages if message.startswith("warm-up")]
    assert "fewer than 15 % of the samples, or about hardly fewer than before, and before epoch 10" in before
    expected = f"over after {number} epochs: in the last one the model has changed its mind about {100 * share:.1f} %"
    assert expected in after


def test_another_loss_is_told_of_and_warm_up_is_as_long_as_it_may_be(caplog: pytest.LogCaptureFixture) -> None:
    training = Training(**BY_LOSSES, epochs=16)

    def train() -> None:
        for _ in range(3):
            for inputs, targets in training.loader:
                training.optimizer.zero_grad()
                torch.autograd.backward(nn.functional.cross_entropy(training.model(inputs), targets.mixed))
                training.optimizer.step()

    caplog.set_level(logging.INFO, logger="mixnn_loader")
    with pytest.warns(UserWarning, match="to tell when warm-up is over, and MixNNLoss"):
        train()
    assert training.phases == ["warm-up"] * 2 + ["correction"]
    expected = "warm-up is over after 2 epochs: no changed predictions were told, and it may not be longer"
    assert expected in caplog.messages


def make_alike(model: nn.Module, size: int) -> None:
    """Average the parameters of all processes, as they are after steps with averaged gradients."""
    for parameter in model.parameters():
        torch.distributed.all_reduce(parameter.data)
        parameter.data /= size


def together(rank: int, size: int) -> dict[str, Any]:
    """Train in several processes, which see different samples and have the same model; what they are told in time."""
    sampler: DistributedSampler[Any] = DistributedSampler(Points(NUM_SAMPLES), size, rank, shuffle=True)
    training = Training(batch_size=5, sampler=sampler)
    told: list[list[tuple[Integers, Floats]]] = []
    for _ in range(6):
        told.append([])
        for batch, logits in training.epoch():
            told[-1].append((batch.targets.indices.numpy(), logits.double().numpy()))
            make_alike(training.model, size)
        told[-1].pop()  # of the last batch nobody knows whether the loop will ask for more
    return {"phases": training.phases, "shares": training.shares, "told": told}


def test_processes_end_it_together(tmp_path: Path) -> None:
    ranks = results_of(together, 2, tmp_path)
    first, second = ranks
    assert (first["phases"], first["shares"]) == (second["phases"], second["shares"])
    warmup = first["phases"].count("warm-up")
    assert 1 < warmup < 6
    expected = Averages()
    for epoch in range(warmup):
        for each in ranks:
            for indices, logits in each["told"][epoch]:
                expected.take(indices, logits)
        assert first["shares"][epoch] == pytest.approx(expected.share())


def left_early(rank: int, size: int) -> dict[str, Any]:
    """Train in several processes whose loops leave each epoch early; go on from the state after each of them."""
    sampler: DistributedSampler[Any] = DistributedSampler(Points(NUM_SAMPLES), size, rank, shuffle=True)

    def an_epoch(training: Training) -> None:
        for number, _ in enumerate(training.epoch()):
            make_alike(training.model, size)
            if number == 4:  # of six batches
                break

    whole, states = Training(0.01, batch_size=5, sampler=sampler), []
    for _ in range(8):
        an_epoch(whole)
        assert whole.shares[-1] is None, "nobody knows yet what the others have counted"
        states.append(copy.deepcopy((whole.loader.state_dict(), whole.model.state_dict())))
    runs = {"whole": (whole.phases, whole.shares[:-1])}
    for epoch in range(1, 7):
        resumed = Training(0.01, batch_size=5, sampler=sampler)
        loaded, weights = states[epoch]
        resumed.model.load_state_dict(weights)
        resumed.loader.load_state_dict(loaded)
        for _ in range(epoch + 1, 8):
            an_epoch(resumed)
        runs[f"resumed after epoch {epoch}"] = (resumed.phases, resumed.shares[:-1])
    return runs


def test_processes_that_leave_epochs_early_end_it_together(tmp_path: Path) -> None:
    first, second = results_of(left_early, 2, tmp_path)
    assert first == second
    phases, _ = first["whole"]
    assert 2 < phases.count("warm-up") < 8
    assert all(run == first["whole"] for run in first.values())
