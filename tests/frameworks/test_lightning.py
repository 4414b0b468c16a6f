"""The Lightning Trainer and Fabric: the documented order, checkpoint and resume, and the other orders."""

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric import Fabric
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor, nn
from torch.utils.data import DataLoader
from toy import Points, mlp

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss, MixNNTargets

pytestmark = pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning")

KeepLoader: Any = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "lightning_trainer.py"))["KeepLoader"]
RIGHT_ORDER = (
    r"already prepared; return MixNNDataLoader\(loader, model\) from train_dataloader\(\) or pass it to "
    r"trainer\.fit\(\), around the loader as you built it; with Fabric, leave out fabric\.setup_dataloaders\(\)"
)


class Classifier(pl.LightningModule):
    """The small network, its loader and its loss."""

    def __init__(self, *, asks_the_module: bool = False, num_workers: int = 0) -> None:
        super().__init__()
        self.net = mlp()
        self.criterion = MixNNLoss()
        self.losses: list[float] = []
        self.batch_sizes: list[int] = []
        generator = torch.Generator().manual_seed(0)
        loader = DataLoader(Points(), 16, shuffle=True, generator=generator, num_workers=num_workers)
        self.loader = MixNNDataLoader(
            loader, self if asks_the_module else self.net, warmup_epochs=1, correction_epoch=2
        )

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.net(inputs)
        return logits

    def train_dataloader(self) -> MixNNDataLoader:
        return self.loader

    def training_step(self, batch: MixNNBatch) -> Tensor:
        inputs, targets = batch
        assert isinstance(batch, MixNNBatch)
        assert isinstance(targets, MixNNTargets)
        loss: Tensor = self.criterion(self(inputs), targets)
        self.log("loss", loss, on_step=False, on_epoch=True)  # weighted by the size that Lightning finds
        self.losses.append(loss.item())
        self.batch_sizes.append(len(targets))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    def kept(self) -> dict[str, Tensor]:
        """All that the training has made."""
        own = {"soft targets": self.loader.soft_targets, "P": self.loader.clean_probability}
        return own | {"neighbors": self.loader.neighbor_indices, **self.net.state_dict()}


class Validated(Classifier):
    """The same, looked at after every epoch."""

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Points(8, seed=1), batch_size=8)

    def validation_step(self, batch: list[Tensor]) -> None:
        inputs, labels = batch
        self.log("validation_loss", self.criterion(self(inputs), labels), batch_size=len(labels))


@pytest.fixture(autouse=True)
def same_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def trainer(max_epochs: int = 3, **options: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(max_epochs=max_epochs, **(defaults | options))


def without_dropout(module: Classifier) -> Classifier:
    """Leave nothing that draws from PyTorch's generator, which validation does, and which Lightning does not save."""
    module.net.body[3] = nn.Identity()
    return module


def plain_loop(module: Classifier, epochs: int = 3, accumulate: int = 1) -> Classifier:
    """Train without Lightning."""
    optimizer: Any = module.configure_optimizers()
    for _ in range(epochs):
        for number, (inputs, targets) in enumerate(module.loader, start=1):
            loss = module.criterion(module(inputs), targets)
            (loss / accumulate).backward()
            module.losses.append(loss.item())
            if number % accumulate == 0 or number == len(module.loader):
                optimizer.step()
                optimizer.zero_grad()
    return module


def assert_same(module: Classifier, other: Classifier) -> None:
    assert module.losses == other.losses
    for name, value in other.kept().items():
        assert torch.equal(module.kept()[name], value), name


@pytest.mark.parametrize("asks_the_module", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_trains_as_the_plain_loop_does(accumulate: int, asks_the_module: bool) -> None:
    module = Classifier(asks_the_module=asks_the_module)
    state = torch.get_rng_state()
    trainer(accumulate_grad_batches=accumulate).fit(module)
    torch.set_rng_state(state)
    assert_same(module, plain_loop(Classifier(), accumulate=accumulate))
    assert [record["phase"] for record in module.loader.history] == ["warm-up", "mixing", "correction"]


def test_a_loader_given_to_fit() -> None:
    module = Classifier()
    loader = MixNNDataLoader(DataLoader(Points(), 16), module, warmup_epochs=0)
    trainer(2).fit(module, train_dataloaders=loader)
    assert loader.epoch == 2
    assert module.loader.history == []


def test_what_is_logged_is_the_mean_over_samples() -> None:
    module = Classifier()
    fitted = trainer(1)
    fitted.fit(module)
    assert module.batch_sizes == [16, 16, 8]
    mean = sum(loss * size for loss, size in zip(module.losses, module.batch_sizes, strict=True)) / 40
    assert fitted.callback_metrics["loss"].item() == pytest.approx(mean)


def test_mixed_precision() -> None:
    module = Classifier(asks_the_module=True)
    before = {name: value.clone() for name, value in module.net.named_parameters()}
    trainer(precision="bf16-mixed").fit(module)
    assert all(not torch.equal(before[name], value) for name, value in module.net.named_parameters())
    assert module.losses == pytest.approx(plain_loop(Classifier()).losses, abs=0.2)
    assert module.loader.soft_targets.dtype == torch.float32


def test_a_validated_run_trains_as_another() -> None:
    module = without_dropout(Validated())
    fitted = trainer()
    fitted.fit(module)
    assert "validation_loss" in fitted.callback_metrics
    assert_same(module, plain_loop(without_dropout(Classifier())))


WHEN: dict[str, dict[str, Any]] = {
    "epoch's end": {},
    "steps": {"every_n_train_steps": 1},
    "validation's end": {"save_on_train_epoch_end": False},
    "epoch's end, counted in steps": {},
}


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(
    ("when", "step", "num_workers"),
    [
        ("epoch's end", 3, 0),  # in warm-up
        ("epoch's end", 6, 2),
        ("epoch's end", 9, 0),
        ("steps", 4, 0),
        ("steps", 5, 2),
        ("steps", 6, 0),  # the last of an epoch
        ("validation's end", 6, 0),
        ("epoch's end, counted in steps", 6, 0),
    ],
)
def test_resumes_from_a_checkpoint(when: str, step: int, num_workers: int, tmp_path: Path) -> None:
    def fit(module: Classifier, ckpt_path: str | None = None) -> Classifier:
        checkpoint = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **WHEN[when])
        callbacks = [KeepLoader(module.loader), checkpoint]
        limit = {"max_epochs": -1, "max_steps": 12} if "counted in steps" in when else {"max_epochs": 4}
        trainer(**limit, callbacks=callbacks, enable_checkpointing=True).fit(module, ckpt_path=ckpt_path)
        return module

    kind = Validated if when == "validation's end" else Classifier
    run = fit(without_dropout(kind(num_workers=num_workers)))
    torch.manual_seed(1)
    resumed = fit(without_dropout(kind(num_workers=num_workers)), str(tmp_path / f"step={step}.ckpt"))
    run.losses = run.losses[step:]
    assert_same(resumed, run)
    assert [record["epoch"] for record in resumed.loader.history] == [0, 1, 2, 3]


def test_loaders_that_lightning_has_taken_over_are_refused() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    for prepared in (fabric.setup_dataloaders(DataLoader(Points(), 10)), CombinedLoader([DataLoader(Points(), 10)])):
        with pytest.raises(TypeError, match=f"got lightning.*{RIGHT_ORDER}"):
            MixNNDataLoader(prepared, mlp())


def test_fabric_refuses_the_wrapped_loader() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    wrapped: Any = MixNNDataLoader(DataLoader(Points(), 10), mlp())
    with pytest.raises(TypeError, match="Only PyTorch DataLoader"):
        fabric.setup_dataloaders(wrapped)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_model_that_fabric_has_set_up(precision: Any) -> None:
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    inner, points = mlp(), Points()
    model, optimizer = fabric.setup(inner, torch.optim.SGD(inner.parameters(), lr=0.1))
    loader = MixNNDataLoader(DataLoader(points, 10), model, warmup_epochs=0)
    before = inner.head.weight.detach().clone()
    batches = iter(loader)
    batch = next(batches)
    with torch.no_grad(), fabric.autocast():
        logits = mlp().eval()(points.inputs).float()
    expected = nn.functional.cross_entropy(logits, points.labels, reduction="none")
    torch.testing.assert_close(loader.losses, expected)
    fabric.backward(MixNNLoss()(model(batch.inputs), batch))
    optimizer.step()
    assert not torch.equal(before, inner.head.weight)
