"""What Lightning iterates besides the training itself: a search for a learning rate, and passes that it cuts short."""

import logging
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.tuner.tuning import Tuner
from torch import Tensor
from torch.utils.data import DataLoader
from toy import Points, mlp

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss

BATCH_SIZE = 4
STEPS = 12
"""Of the search; Lightning's default is 100."""

SHORT, LITTLE_MORE, LONG = 3 * BATCH_SIZE, 16 * BATCH_SIZE, 40 * BATCH_SIZE
"""Lengths of a dataset: the search goes through it more than once, through more than half of it, or through less."""

pytestmark = pytest.mark.filterwarnings(
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning",
    "ignore:.*does not have many workers",
    "ignore:The number of training batches",
    "ignore:You requested to overfit",
)


class Classifier(pl.LightningModule):
    """The small network with a loader around some points."""

    def __init__(self, num_samples: int, **arguments: Any) -> None:
        super().__init__()
        self.net = mlp()
        self.lr = 0.1
        settings: dict[str, Any] = {"warmup_epochs": 3, "correction_epoch": 5}
        plain = DataLoader(Points(num_samples), BATCH_SIZE, shuffle=True)
        self.loader = MixNNDataLoader(plain, self.net, **(settings | arguments))

    def train_dataloader(self) -> MixNNDataLoader:
        return self.loader

    def training_step(self, batch: MixNNBatch) -> Tensor:
        loss: Tensor = MixNNLoss()(self.net(batch.inputs), batch.targets)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def phases(self) -> str:
        return "".join(str(record["phase"])[0] for record in self.loader.history)


@pytest.fixture(autouse=True)
def same_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def trainer(max_epochs: int, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **options,
    )


@pytest.mark.parametrize(
    ("num_samples", "arguments", "phases"),
    [
        pytest.param(SHORT, {}, "wwwmmcc", id="short"),
        pytest.param(LITTLE_MORE, {}, "wwwmmcc", id="little more"),
        pytest.param(LONG, {}, "wwwmmcc", id="long"),
        pytest.param(LITTLE_MORE, {"neighbors": "batch", "scan": "running"}, "wwwmmcc", id="in batch, running"),
        pytest.param(SHORT, {"warmup_epochs": 1, "correction_epoch": 1}, "wcccccc", id="one epoch of warm-up"),
        pytest.param(LITTLE_MORE, {"warmup_epochs": 0, "correction_epoch": 0}, "ccccccc", id="no warm-up"),
    ],
)
def test_a_search_for_a_learning_rate_leaves_no_trace(
    num_samples: int, arguments: dict[str, Any], phases: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = Classifier(num_samples, **arguments)
    fitted = trainer(7)
    Tuner(fitted).lr_find(module, num_training=STEPS, update_attr=False)
    next(iter(module.loader))
    assert module.loader.epoch == 0
    targets = module.loader.soft_targets
    assert bool(((targets == 0) | (targets == 1)).all()), "none has moved"
    fitted.fit(module)
    assert module.phases() == phases
    assert [record["epoch"] for record in module.loader.history] == list(range(7))


@pytest.mark.parametrize(
    ("options", "epochs"),
    [({"limit_train_batches": 0.1}, 2), ({"limit_train_batches": 6}, 20), ({"fast_dev_run": True}, 0)],
    ids=str,
)
def test_passes_that_are_cut_short_add_up(
    options: dict[str, Any], epochs: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    module = Classifier(10 * BATCH_SIZE)
    trainer(20, **options).fit(module)
    assert module.loader.epoch == epochs
    assert module.phases() == ("wwwmm" + 15 * "c")[: max(1, epochs)]
    told = [record for record in caplog.records if "epoch_length=" in record.getMessage()]
    assert len(told) == (epochs < 20)


def test_epochs_of_the_length_of_the_limit() -> None:
    module = Classifier(10 * BATCH_SIZE, epoch_length=2)
    trainer(7, limit_train_batches=2).fit(module)
    assert module.phases() == "wwwmmcc"


def test_overfit_batches_is_refused_by_lightning_in_the_first_second() -> None:
    module = Classifier(10 * BATCH_SIZE)
    with pytest.raises(ValueError, match=r"needs to subclass `torch\.utils\.data\.DataLoader`"):
        trainer(2, overfit_batches=3).fit(module)
