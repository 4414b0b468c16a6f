"""Where MixNN does not happen, or what is set has no effect, the user is told."""

import gc
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from accelerate.test_utils.testing import AccelerateTestCase
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss

MARK = "_mark"
PLAIN = "got plain class indices in a training step"


@pytest.fixture(autouse=True)
def only_loaders_of_the_test() -> Iterator[None]:
    gc.collect()
    yield
    case: Any = AccelerateTestCase()
    case.tearDown()


def wrapped() -> MixNNDataLoader:
    torch.manual_seed(0)
    return MixNNDataLoader(DataLoader(Points(), 10, shuffle=True), mlp(), warmup_epochs=1)


def of_the_dataset(loader: MixNNDataLoader) -> Any:
    return DataLoader(loader.dataset, batch_size=loader.batch_size)


def make_private(loader: MixNNDataLoader) -> Any:
    """Build what opacus.PrivacyEngine.make_private does: a DataLoader with samples drawn by Poisson's law."""
    batches = BatchSampler(RandomSampler(loader.dataset), 10, drop_last=False)
    return DataLoader(
        loader.dataset,
        batch_sampler=batches,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def memory_manager(loader: MixNNDataLoader) -> Any:
    """Build what opacus.utils.batch_memory_manager.wrap_data_loader does."""
    return DataLoader(loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn)


REBUILT: list[Callable[[MixNNDataLoader], Any]] = [
    of_the_dataset,
    make_private,
    memory_manager,
    lambda loader: skip_first_batches(loader, 1),
    lambda loader: prepare_data_loader(loader, put_on_device=False),
]


@pytest.mark.parametrize("rebuild", REBUILT)
def test_a_plain_loader_made_of_the_wrapped_one_is_warned_of_once(rebuild: Any) -> None:
    loader = wrapped()
    plain, model, criterion = rebuild(loader), mlp(), MixNNLoss()

    def train() -> None:
        for inputs, labels in plain:
            criterion(model(inputs), labels)

    with pytest.warns(UserWarning, match=PLAIN) as caught:
        train()
    assert len(caught) == 1


def loss_of_plain_labels(criterion: nn.Module | None = None) -> None:
    points = Points()
    (MixNNLoss() if criterion is None else criterion)(mlp()(points.inputs), points.labels)


def test_what_is_no_sign_of_it_is_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss_of_plain_labels()  # there is no loader
        loader = wrapped()
        with torch.no_grad():
            loss_of_plain_labels()
        next(iter(loader))
        loss_of_plain_labels()
        del loader
        unused = wrapped()
        del unused
        loss_of_plain_labels()


LABELS = r"was never taken of a batch of the MixNNDataLoader, which has given several: .* unpack="


def test_the_loss_of_given_labels_of_mixed_inputs_is_warned_of_once() -> None:
    loader, model, criterion = wrapped(), mlp(), MixNNLoss()

    def train() -> None:
        for _ in range(2):
            for inputs, targets in loader:
                criterion(model(inputs), targets.labels)

    with pytest.warns(UserWarning, match=LABELS) as caught:
        train()
    assert sum("plain class indices" in str(each.message) for each in caught) == 1


def test_extras_taken_for_targets_are_warned_of() -> None:
    points = Points()
    groups = torch.arange(len(points)) % 2
    dataset = TensorDataset(points.inputs, groups, points.labels)  # labels come third
    loader: Any = MixNNDataLoader(DataLoader(dataset, 10), mlp(), extras=True)
    model = mlp()

    def train() -> None:
        for inputs, _, labels in loader:
            MixNNLoss()(model(inputs), labels)

    with pytest.warns(UserWarning, match=LABELS):
        train()


def test_another_head_whose_loss_comes_first_is_not_warned_of() -> None:
    loader, model, criterion = wrapped(), mlp(), MixNNLoss()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*" + PLAIN)
        for inputs, targets in loader:
            criterion(model(inputs), targets.labels)
            criterion(model(inputs), targets)


def test_a_plain_training_after_one_with_a_loss_of_ones_own_is_not_warned_of() -> None:
    loader, model = wrapped(), mlp()
    for inputs, targets in loader:
        nn.functional.cross_entropy(model(inputs), targets.mixed)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*" + PLAIN)
        loss_of_plain_labels()
    assert loader.epoch == 1


def test_a_loader_that_was_reset_has_given_no_batch() -> None:
    loader = wrapped()
    next(iter(loader))
    loader.reset()
    with pytest.warns(UserWarning, match=PLAIN):
        loss_of_plain_labels()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("batch_size", "it belongs to the DataLoader: build that with it, and wrap it anew"),
        ("collate_fn", "it belongs to the DataLoader"),
        ("dataset", "it belongs to the DataLoader"),
        ("momentum", r"it is an argument: MixNNDataLoader\(\.\.\., momentum=\.\.\.\)"),
        ("prepare", "it is an argument"),
        ("epoch", r"it can only be read; call set_epoch\(\)"),
        ("history", "it can only be read"),
        ("soft_targets", "it can only be read"),
        ("foo", "it has none of this name"),
    ],
)
def test_an_attribute_that_would_have_no_effect_is_refused(name: str, remedy: str) -> None:
    loader = wrapped()
    message = f"{name!r} cannot be set or deleted: {remedy}"
    with pytest.raises(AttributeError, match=message):
        setattr(loader, name, 3)
    with pytest.raises(AttributeError, match=message):
        delattr(loader, name)
    assert loader.batch_size == 10
    assert loader.epoch == 0


def test_private_names_are_for_frameworks() -> None:
    loader: Any = wrapped()
    setattr(loader, MARK, 3)
    assert getattr(loader, MARK) == 3
    delattr(loader, MARK)
    assert not hasattr(loader, MARK)


@pytest.mark.parametrize("fetched", ["first", "all"])
def test_a_pass_that_is_fetched_with_gradients_off_and_trained_on_is_warned_of_once(fetched: str) -> None:
    loader, model, criterion = wrapped(), mlp(), MixNNLoss()

    def train() -> None:
        with torch.no_grad():
            batches = iter(loader)
            batch = next(batches, None)
        while batch is not None:
            criterion(model(batch.inputs), batch).backward()
            with torch.set_grad_enabled(fetched == "first"):
                batch = next(batches, None)

    with pytest.warns(UserWarning, match=r"pass that was started with gradients off.*torch\.no_grad\(\)") as caught:
        train()
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train()


def test_an_iterator_for_every_step_is_warned_of_once() -> None:
    model, criterion = mlp(), MixNNLoss()
    loader = MixNNDataLoader(Points(), model, batch_size=8)

    def train() -> None:
        for _ in range(3):
            inputs, targets = next(iter(loader))
            criterion(model(inputs), targets).backward()

    with pytest.warns(UserWarning, match=r"a pass that was over before: it does not count.*batches = iter") as caught:
        train()
    assert len(caught) == 1
    assert loader.history == []


@pytest.mark.filterwarnings("error:MixNNLoss got")
def test_an_iterator_that_is_kept_or_left_is_not_warned_of() -> None:
    model, criterion = mlp(), MixNNLoss()
    loader = MixNNDataLoader(Points(), model, batch_size=8)
    batches = iter(loader)
    for _ in range(2):
        inputs, targets = next(batches)
        criterion(model(inputs), targets).backward()
    del batches
    criterion(model(inputs), targets).backward()  # once more, as a closure does
    inputs, targets = next(iter(loader))
    for _ in range(3):  # to see whether the model can learn a batch
        criterion(model(inputs), targets).backward()
    for inputs, targets in itertools.islice(loader, 2):
        criterion(model(inputs), targets).backward()
    ahead = list(loader)
    for inputs, targets in ahead[-2:]:
        criterion(model(inputs), targets).backward()


def test_the_loss_of_a_plain_pass_is_not_warned_of() -> None:
    loader, model, criterion = wrapped(), mlp(), MixNNLoss()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        for batch in loader:
            criterion(model(batch.inputs), batch)
