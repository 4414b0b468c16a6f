"""An epoch of the schedule is one in which the model was trained, whatever else is iterated."""

import itertools
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler
from toy import NUM_CLASSES, Points, mlp, tensors_of

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss

N, BATCH_SIZE, LENGTH = 40, 4, 10
SETTINGS: dict[str, Any] = {"warmup_epochs": 3, "correction_epoch": 5}
IN_BATCH: dict[str, Any] = {"neighbors": "batch", "scan": "running"}
MODES = pytest.mark.parametrize("mode", [{}, IN_BATCH], ids=["dataset", "in batch, running"])


class Training:
    """A user's loop."""

    def __init__(self, loader: Any = None, **arguments: Any) -> None:
        torch.manual_seed(0)
        self.model = mlp()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        plain = DataLoader(Points(N), BATCH_SIZE, shuffle=True) if loader is None else loader
        self.loader = MixNNDataLoader(plain, self.model, **(SETTINGS | arguments))
        self.criterion: nn.Module = MixNNLoss()

    def step(self, batch: MixNNBatch) -> None:
        loss = self.criterion(self.model(batch.inputs), batch.targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def epoch(self, batches: int | None = None) -> list[MixNNBatch]:
        """Train a pass, or the first batches of one."""
        seen = []
        for number, batch in enumerate(self.loader, start=1):
            self.step(batch)
            seen.append(batch)
            if number == batches:
                break
        return seen

    def phases(self) -> str:
        return "".join(str(record["phase"])[0] for record in self.loader.history)


def training_loss(training: Training) -> None:
    with torch.no_grad():
        for inputs, targets in training.loader:
            training.criterion(training.model(inputs), targets)


def in_inference_mode(training: Training) -> None:
    with torch.inference_mode():
        for _ in training.loader:
            pass


def statistics(training: Training) -> None:
    update_bn(training.loader, training.model)


def look(training: Training) -> None:
    next(iter(training.loader))


def three_looks_at_once(training: Training) -> None:
    iterators = [iter(training.loader) for _ in range(3)]
    for iterator in iterators:
        next(iterator)


def nothing_at_all(training: Training) -> None:
    iter(training.loader)
    repr(training.loader)


@MODES
@pytest.mark.parametrize(
    "something_else", [training_loss, in_inference_mode, statistics, look, three_looks_at_once, nothing_at_all]
)
def test_what_trains_nothing_uses_up_no_epoch(something_else: Any, mode: dict[str, Any]) -> None:
    training = Training(**mode)
    for epoch in range(7):
        something_else(training)
        assert training.loader.epoch == epoch
        training.epoch()
        something_else(training)
    assert training.phases() == "wwwmmcc"
    assert [record["epoch"] for record in training.loader.history] == list(range(7))


def snapshot(loader: MixNNDataLoader) -> dict[str, Any]:
    state = loader.state_dict()
    return {name: state[name] for name in ("epoch", "trained", "history", "samples")}


def assert_same(one: Any, other: Any) -> None:
    """Compare tensors and plain values in nests."""
    if isinstance(one, Tensor):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert_same(value, other[name])
    elif isinstance(one, (list, tuple)):
        for value, same in zip(one, other, strict=True):
            assert_same(value, same)
    else:
        assert one == other


@MODES
@pytest.mark.parametrize("epochs", [0, 2, 4, 6])
def test_a_pass_without_gradients_is_of_the_same_samples_unmixed_and_changes_nothing(
    epochs: int, mode: dict[str, Any]
) -> None:
    training = Training(**mode)
    for _ in range(epochs):
        training.epoch()
    before = snapshot(training.loader)
    torch.manual_seed(1)
    with torch.no_grad():
        batches = list(training.loader)
    torch.manual_seed(1)
    plain = list(DataLoader(Points(N), BATCH_SIZE, shuffle=True))
    for batch, (inputs, labels) in zip(batches, plain, strict=True):
        torch.testing.assert_close(batch.inputs, inputs, rtol=0, atol=0)
        assert torch.equal(batch.targets.labels, labels)
        assert batch.targets.neighbors.shape == (BATCH_SIZE, 0)
        assert torch.equal(batch.targets.mixed, nn.functional.one_hot(labels, NUM_CLASSES).float())
    after = snapshot(training.loader)
    if epochs == 0:  # the number of classes is known now
        before["samples"]["soft_targets"] = torch.zeros(N, NUM_CLASSES)
    assert_same(after, before)


@MODES
def test_a_pass_without_gradients_in_the_middle_of_an_epoch_leaves_it_alone(mode: dict[str, Any]) -> None:
    def run(evaluates: bool) -> list[Any]:
        training = Training(DataLoader(Points(N), BATCH_SIZE, sampler=list(range(N))), **mode)
        training.model.body[3] = nn.Identity()  # dropout would draw from the stream that every pass draws from
        for _ in range(6):
            for number, batch in enumerate(training.loader):
                training.step(batch)
                if evaluates and number % 4 == 2:
                    training.model.eval()
                    training_loss(training)
                    training.model.train()
        return [training.loader.soft_targets, training.loader.losses, training.phases(), *training.model.parameters()]

    assert_same(run(evaluates=True), run(evaluates=False))


@pytest.mark.parametrize("share", [2, 4])
def test_short_passes_add_up_to_an_epoch(share: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    training = Training()
    passes = -(-LENGTH // share)  # that make a whole one
    for number in range(20):
        assert training.loader.epoch == number // passes
        training.epoch(batches=share)
    told = [record for record in caplog.records if "epoch_length=" in record.getMessage()]
    assert len(told) == 1


def test_half_of_a_pass_is_an_epoch() -> None:
    training = Training()
    for batches, epoch in ((5, 1), (4, 1), (9, 2), (4, 2), (10, 3)):
        training.epoch(batches)
        assert training.loader.epoch == epoch


def test_where_set_epoch_is_called_it_decides() -> None:
    training = Training()
    for epoch in (0, 1, 1, 5, 2):
        training.loader.set_epoch(epoch)
        training.epoch(batches=1 if epoch == 5 else None)
    assert [record["epoch"] for record in training.loader.history] == [0, 1, 1, 5, 2]
    assert training.phases() == "wwwcw"
    assert training.loader.epoch == 3


class Endless(Sampler[int]):
    """Shuffles again and again."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[int]:
        while True:
            yield from torch.randperm(self.count).tolist()


class EndlessBatches:
    """timm's `_RepeatSampler`."""

    def __init__(self, batches: Any) -> None:
        self.sampler = batches

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from iter(self.sampler)


class MultiEpochsDataLoader(DataLoader[Any]):
    """timm's: workers stay alive because the sampler never ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.length = super().__len__()
        self.__dict__["batch_sampler"] = EndlessBatches(self.batch_sampler)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Any:
        raise AssertionError("is not used")


@MODES
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_endless_sampler_goes_through_the_schedule(num_workers: int, mode: dict[str, Any]) -> None:
    plain = DataLoader(Points(N), BATCH_SIZE, sampler=Endless(N), num_workers=num_workers)
    training = Training(plain, **mode)
    drawn: list[int] = []
    for number, batch in enumerate(training.loader):
        training.step(batch)
        drawn += batch.targets.indices.tolist()
        has_neighbors = batch.targets.neighbors.shape[1] > 0
        assert has_neighbors == (number >= 3 * LENGTH), "neighbors come with the first batch after warm-up"
        if number == 7 * LENGTH - 1:
            break
    assert training.phases() == "wwwmmcc"
    for epoch in range(7):
        assert sorted(drawn[epoch * N : (epoch + 1) * N]) == list(range(N))


@pytest.mark.parametrize("length", [3, 10, 17])
@pytest.mark.parametrize("endless", [False, True])
def test_an_epoch_of_a_given_length(length: int, endless: bool) -> None:
    sampler: Any = Endless(N) if endless else RandomSampler(range(N))
    training = Training(DataLoader(Points(N), BATCH_SIZE, sampler=sampler), epoch_length=length)
    steps = 0
    while steps < 7 * length - 1:
        for batch in training.loader:
            assert training.loader.history[-1]["epoch"] == steps // length
            training.step(batch)
            steps += 1
            assert training.loader.epoch == steps // length
            if steps == 7 * length - 1:
                break
    assert training.phases() == "wwwmmcc"


def test_the_order_of_an_endless_pass_is_that_of_the_plain_loader() -> None:
    def plain() -> DataLoader[Any]:
        return DataLoader(Points(N), BATCH_SIZE, sampler=Endless(N))

    torch.manual_seed(5)
    expected = [inputs for inputs, _ in itertools.islice(plain(), 25)]
    training = Training(plain(), warmup_epochs=100)
    torch.manual_seed(5)
    for batch, inputs in zip(training.loader, expected, strict=False):
        assert torch.equal(batch.inputs, inputs)


def test_timms_loader_of_many_epochs_ends_its_passes() -> None:
    plain = MultiEpochsDataLoader(Points(N), BATCH_SIZE, shuffle=True)
    with pytest.warns(UserWarning, match="has an __iter__ of its own"):
        training = Training(plain)
    for _ in range(7):
        assert len(training.epoch()) == LENGTH
    assert training.phases() == "wwwmmcc"
    assert sum(1 for _ in training.loader) == LENGTH
    with torch.no_grad():
        assert sum(1 for _ in training.loader) == LENGTH


def test_a_batch_that_comes_back_is_warned_of_once() -> None:
    training = Training()

    def train() -> None:
        for batch in itertools.islice(itertools.cycle(training.loader), 3 * LENGTH):
            training.step(batch)

    with pytest.warns(UserWarning, match=r"trained on before, after a later one.*itertools\.cycle") as caught:
        train()
    assert len(caught) == 1


def test_several_losses_of_one_batch_are_one_step() -> None:
    training = Training()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for batch in training.loader:
            for _ in range(2):  # as sharpness-aware minimization does
                training.step(batch)
            training.criterion(training.model(batch.inputs), batch)
    assert training.loader.epoch == 1


def kept(loader: MixNNDataLoader) -> list[Tensor]:
    return [rows.clone() for rows in (loader.soft_targets, loader.losses, loader.given_labels)]


@pytest.mark.parametrize("phase", [0, 5])
def test_what_a_batch_changes_is_written_when_it_has_been_trained_on(phase: int) -> None:
    training = Training(**IN_BATCH)
    for _ in range(phase):
        training.epoch()
    before = kept(training.loader) if phase else None
    batches = iter(training.loader)

    batch = next(batches)
    indices = batch.targets.indices
    if before is not None:
        assert_same(kept(training.loader), before)
    else:
        assert (training.loader.given_labels == -1).all()

    training.step(batch)  # the loss was seen with it
    if before is None:
        assert (training.loader.given_labels[indices] >= 0).all()
        assert (training.loader.given_labels >= 0).sum() == len(indices)
    else:
        changed = (training.loader.soft_targets != before[0]).any(dim=1).nonzero().flatten()
        assert set(changed.tolist()) == set(indices.tolist())
        assert torch.equal(training.loader.soft_targets[indices], batch.targets.soft_targets[:, 0])


def test_with_a_loss_of_ones_own_it_is_written_when_the_next_batch_is_asked_for() -> None:
    training = Training(warmup_epochs=0, correction_epoch=0, **IN_BATCH)
    training.criterion = OwnLoss()
    training.epoch()
    before = kept(training.loader)
    batches = iter(training.loader)
    first = next(batches)
    training.step(first)
    assert_same(kept(training.loader), before)
    next(batches)
    changed = (training.loader.soft_targets != before[0]).any(dim=1).nonzero().flatten()
    assert set(changed.tolist()) == set(first.targets.indices.tolist())


class OwnLoss(nn.Module):
    """Equation 7, by the user."""

    def forward(self, logits: Tensor, targets: Any) -> Tensor:
        losses: Tensor = -(targets.mixed * logits.log_softmax(dim=1)).sum(dim=1)
        return losses.mean()


def test_a_training_without_our_loss_goes_through_the_schedule() -> None:
    training = Training()
    training.criterion = OwnLoss()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(7):
            training.epoch()
    assert training.phases() == "wwwmmcc"


def test_a_search_for_a_learning_rate_uses_up_no_epoch() -> None:
    training = Training()
    start = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    for _ in range(3):  # longer than an epoch
        training.epoch()
    training.model.load_state_dict(start)
    for _ in range(7):
        training.epoch()
    assert training.phases() == "wwwmmcc"


def test_a_model_that_is_restored_after_labels_were_corrected_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    training = Training()
    start = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    for _ in range(7):
        training.epoch()
    assert training.phases()[-1] == "c"
    training.model.load_state_dict(start)
    with caplog.at_level(logging.WARNING, logger="mixnn_loader"):
        training.epoch()
    (message,) = caplog.messages
    assert "at the start of epoch 0, which comes again, with the labels as given" in message
    targets = training.loader.soft_targets
    assert torch.equal(targets, targets.round())


@pytest.mark.parametrize(
    "arguments", [{}, {"credibility": "agreement", "correct_by": "credibility"}, {"early_learning": 3.0}], ids=str
)
def test_what_is_asked_or_loaded_in_inference_mode_can_be_trained_on(arguments: dict[str, Any]) -> None:
    training, other = Training(**arguments), Training(**arguments)
    training.epoch()
    training.epoch(2)
    with torch.inference_mode():
        training.loader.label_report()
        other.loader.load_state_dict(training.loader.state_dict())
    for one in (training, other):
        for _ in range(6):
            one.epoch()
        assert one.phases()[-1] == "c"


def test_the_batches_of_a_look_come_again() -> None:
    """The next pass is as if nobody had looked, but for the user's own random stream."""

    def run(looks: bool) -> list[dict[str, Tensor]]:
        training = Training(DataLoader(Points(N), BATCH_SIZE, sampler=list(range(N))), neighbors="random", seed=3)
        batches: list[MixNNBatch] = []
        for _ in range(6):
            if looks:
                with torch.random.fork_rng():
                    look(training)
            batches += training.epoch()
        return [tensors_of(batch.targets) for batch in batches]

    assert_same(run(looks=True), run(looks=False))


def test_batch_samplers_are_endless_too() -> None:
    batches: Any = EndlessBatches(BatchSampler(RandomSampler(range(N)), BATCH_SIZE, drop_last=False))
    training = Training(DataLoader(Points(N), batch_sampler=batches))
    for number, batch in enumerate(training.loader):
        training.step(batch)
        if number == 4 * LENGTH - 1:
            break
    assert training.phases() == "wwwm"


class Failing(Points):
    """Raises an error once for a sample, when it is told to."""

    fails = False

    def __getitem__(self, index: int) -> Any:
        if self.fails and index == 7:
            self.fails = False
            raise OSError("the disk is away")
        return super().__getitem__(index)


def test_a_scan_that_fails_within_a_pass_is_made_again() -> None:
    scanned = Failing(N)
    training = Training(warmup_epochs=1, epoch_length=4, scan_dataset=scanned)
    batches = iter(training.loader)
    for _ in range(4):
        training.step(next(batches))
    scanned.fails = True
    with pytest.raises(OSError, match="the disk is away"):
        next(batches)
    training.epoch()
    assert training.loader.history[1]["scan"] == "epoch"
    assert training.loader.clean_probability.isfinite().all()
