"""Accelerate and Lightning in two processes: both train as a loop of one's own does, and resume."""

import importlib
import os
import re
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from integration.processes import results_of, run_in_processes
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from toy import NUM_CLASSES, NUM_FEATURES, Points, mlp

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.* does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Using `DistributedSampler` with the dataloaders"),
]

NUM_SAMPLES = 41  # 21 for each process: one sample is drawn twice
EPOCHS = 4
BATCHES = 3
"""Of an epoch, in each process."""

EXAMPLES = Path(__file__).parents[2] / "examples"
KeepLoader: Any = runpy.run_path(str(EXAMPLES / "lightning_trainer.py"))["KeepLoader"]
NOT_DIVIDED = r"each of 2 processes draws the whole dataset.*sampler=DistributedSampler\(dataset\)"
OF_ANOTHER = r"saved within an epoch in process \(rank, number of processes\) \(0, 2\), this loader has \(1, 2\)"


@pytest.fixture(autouse=True, scope="module")
def imported() -> None:
    """Import in every process's stead what takes seconds, and sets the number of threads."""
    threads = torch.get_num_threads()
    importlib.import_module("pomegranate.distributions")
    torch.set_num_threads(threads)


def as_torchrun_does(rank: int, size: int) -> None:
    """Say which process this is, as frameworks read it, and let its random numbers be its own."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= {"OMP_NUM_THREADS": "1"}
    torch.manual_seed(rank)


def net_without_state() -> nn.Module:
    """A network with nothing that a checkpoint of the first process has wrong for the second: running statistics.

    Nor does it draw from PyTorch's generator, whose state Lightning does not save.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(NUM_FEATURES, 8), nn.ReLU(), nn.Linear(8, NUM_CLASSES))


def mixnn(model: nn.Module, size: int, rank: int) -> MixNNDataLoader:
    """A process's loader."""
    points = Points(NUM_SAMPLES)
    sampler: DistributedSampler[Any] = DistributedSampler(points, size, rank)
    return MixNNDataLoader(DataLoader(points, 7, sampler=sampler), model, warmup_epochs=1, correction_epoch=2)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


class Log:
    """What a process has done and knows."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.drawn: list[Tensor] = []
        self.known: list[dict[str, Any]] = []

    def note_step(self, loss: Tensor, batch: MixNNBatch) -> None:
        self.losses.append(loss.item())
        self.drawn.append(batch.targets.indices)

    def note_epoch(self, loader: MixNNDataLoader, model: nn.Module) -> None:
        """Copy what the loader says of all samples, and the weights, which are those of all processes."""
        names = ("given_labels", "losses", "clean_probability", "soft_targets", "neighbor_indices")
        known = {name: getattr(loader, name).clone() for name in names}
        self.known.append(known | {name: value.detach().clone() for name, value in model.named_parameters()})


def assert_same(first: Any, second: Any) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)


def assert_all_know_the_same(logs: list[Log]) -> None:
    """Check that the processes shared the data and what they learned from it."""
    for epoch in range(EPOCHS):
        assert_same(logs[0].known[epoch], logs[1].known[epoch])
        drawn = [torch.cat(log.drawn[epoch * BATCHES :][:BATCHES]) for log in logs]
        assert [len(part) for part in drawn] == [21, 21]
        assert set(torch.cat(drawn).tolist()) == set(range(NUM_SAMPLES))
    assert not torch.equal(logs[0].drawn[0], logs[0].drawn[BATCHES]), "every epoch has the same order"


def own_loop(rank: int, size: int) -> Log:
    """DistributedDataParallel without a framework."""
    as_torchrun_does(rank, size)
    model = DistributedDataParallel(mlp())
    optimizer, log = sgd(model), Log()
    loader = mixnn(model, size, rank)
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        for batch in loader:
            loss = MixNNLoss()(model(batch.inputs), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log.note_step(loss, batch)
        log.note_epoch(loader, model.module)
    return log


class Accelerated:
    """A process's training with Accelerate, in the documented order."""

    def __init__(self, net: nn.Module) -> None:
        self.accelerator = Accelerator(cpu=True)
        self.net = net
        self.model, self.optimizer = self.accelerator.prepare(net, sgd(net))
        self.loader = mixnn(self.model, self.accelerator.num_processes, self.accelerator.process_index)
        self.log = Log()

    def train(self, after: Callable[[int, int | None], None] = lambda *_: None) -> Log:
        """Go on to the last epoch; ``after(epoch, batch)`` every batch, and ``after(epoch, None)`` every epoch."""
        for epoch in range(self.loader.epoch, EPOCHS):
            self.loader.set_epoch(epoch)
            for number, batch in enumerate(self.loader):
                loss = MixNNLoss()(self.model(batch.inputs), batch)
                self.accelerator.backward(loss)
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.log.note_step(loss, batch)
                after(epoch, number)
            self.log.note_epoch(self.loader, self.net)
            after(epoch, None)
        return self.log


@pytest.fixture(scope="module")
def logs_of_own_loop(tmp_path_factory: pytest.TempPathFactory) -> list[Log]:
    """What the two processes of a loop without a framework have done."""
    return both(own_loop, tmp_path_factory.mktemp("own") / "loop")


def accelerated(rank: int, size: int) -> Log:
    as_torchrun_does(rank, size)
    training = Accelerated(mlp())
    assert isinstance(training.model, DistributedDataParallel)
    return training.train()


def test_accelerate_trains_as_a_loop_of_ones_own(tmp_path: Path, logs_of_own_loop: list[Log]) -> None:
    logs = both(accelerated, tmp_path / "accelerate")
    assert_all_know_the_same(logs)
    assert_same([vars(log) for log in logs], [vars(log) for log in logs_of_own_loop])


def both(function: Callable[[int, int], Any], folder: Path) -> list[Any]:
    """Call a function in two processes, and return what it returned in each."""
    folder.mkdir()
    return results_of(function, 2, folder)


def accelerate_undivided(rank: int, size: int) -> None:
    as_torchrun_does(rank, size)
    model = Accelerator(cpu=True).prepare(mlp())
    loader = MixNNDataLoader(DataLoader(Points(), 8, shuffle=True), model)
    with pytest.warns(UserWarning, match=NOT_DIVIDED):
        assert sum(len(batch.inputs) for batch in loader) == 40


def test_accelerate_without_a_distributed_sampler_is_warned_of(tmp_path: Path) -> None:
    both(accelerate_undivided, tmp_path / "accelerate")


class StateOfAll:
    """To be registered in the loader's place: Accelerate asks every process, and saves what the first one says."""

    def __init__(self, loader: MixNNDataLoader, rank: int) -> None:
        self.loader = loader
        self.rank = rank

    def state_dict(self) -> dict[str, Any]:
        return {"processes": gather_object([self.loader.state_dict()])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loader.load_state_dict(state["processes"][self.rank])


def registered(training: Accelerated, rank: int, *, all_states: bool) -> Accelerated:
    training.accelerator.register_for_checkpointing(
        StateOfAll(training.loader, rank) if all_states else training.loader
    )
    return training


def accelerate_resumed(rank: int, size: int, folder: Path, place: tuple[int, int | None], *, all_states: bool) -> None:
    """Save once on the way, go on from there in new objects, and compare."""
    as_torchrun_does(rank, size)
    whole = registered(Accelerated(net_without_state()), rank, all_states=all_states)

    def save(*now: int | None) -> None:
        if now == place:
            whole.accelerator.save_state(str(folder))
            whole.log = Log()

    whole.train(after=save)
    whole.accelerator.wait_for_everyone()
    again = registered(Accelerated(net_without_state()), rank, all_states=all_states)
    again.accelerator.load_state(str(folder))
    again.train()
    assert len(again.log.losses) > 0
    whole.log.known = whole.log.known[-len(again.log.known) :]  # without the epoch that was at its end
    assert_same(vars(again.log), vars(whole.log))


@pytest.mark.parametrize(("place", "all_states"), [((1, None), False), ((2, 2), False), ((2, 0), True), ((2, 1), True)])
def test_accelerate_resumes(tmp_path: Path, place: tuple[int, int | None], all_states: bool) -> None:
    both(
        partial(accelerate_resumed, folder=tmp_path / "saved", place=place, all_states=all_states), tmp_path / "resume"
    )


def accelerate_loads_the_first_ones_state(rank: int, size: int, folder: Path) -> None:
    as_torchrun_does(rank, size)
    training = registered(Accelerated(net_without_state()), rank, all_states=False)
    batches = iter(training.loader)
    next(batches)  # without a name, the iterator would be gone here, and the epoch over
    training.accelerator.save_state(str(folder))
    training.accelerator.wait_for_everyone()
    if rank == 0:
        training.accelerator.load_state(str(folder))
    else:
        with pytest.raises(ValueError, match=OF_ANOTHER):
            training.accelerator.load_state(str(folder))


def test_accelerate_gives_all_the_first_ones_state_which_is_refused_within_an_epoch(tmp_path: Path) -> None:
    both(partial(accelerate_loads_the_first_ones_state, folder=tmp_path / "saved"), tmp_path / "load")


class Module(pl.LightningModule):
    """A network, its loss, and what it sees."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.criterion = MixNNLoss()
        self.log_book = Log()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.net(inputs)
        return logits

    def training_step(self, batch: MixNNBatch) -> Tensor:
        loss: Tensor = self.criterion(self(batch.inputs), batch)
        self.log_book.note_step(loss, batch)
        return loss

    def on_train_epoch_end(self) -> None:
        assert isinstance(self.trainer.train_dataloader, MixNNDataLoader)
        self.log_book.note_epoch(self.trainer.train_dataloader, self.net)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return sgd(self.net)


class Validated(Module):
    """The same, looked at after every epoch."""

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Points(8, seed=1), batch_size=4)

    def validation_step(self, batch: list[Tensor]) -> None:
        self.criterion(self(batch[0]), batch[1])


def ddp_trainer(size: int, **options: Any) -> Any:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": size,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(max_epochs=EPOCHS, **(defaults | options))


def fit(trainer: Any, module: Module, *, keeps: bool = True, ckpt_path: str | None = None) -> Log:
    """Train in the documented order: the Trainer says what the sampler has to know before there is a process group."""
    loader = mixnn(module, trainer.world_size, trainer.global_rank)
    if keeps:
        trainer.callbacks.append(KeepLoader(loader))
    trainer.fit(module, loader, ckpt_path=ckpt_path)
    return module.log_book


def with_lightning(rank: int, size: int) -> Log:
    as_torchrun_does(rank, size)
    return fit(ddp_trainer(size), Module(mlp()))


def test_lightning_trains_as_a_loop_of_ones_own(tmp_path: Path, logs_of_own_loop: list[Log]) -> None:
    logs = both(with_lightning, tmp_path / "lightning")
    assert_all_know_the_same(logs)
    assert_same([vars(log) for log in logs], [vars(log) for log in logs_of_own_loop])


def lightning_undivided(rank: int, size: int) -> None:
    as_torchrun_does(rank, size)
    module = Module(mlp())
    loader = MixNNDataLoader(DataLoader(Points(), 8, shuffle=True), module)
    with pytest.warns(UserWarning, match=NOT_DIVIDED):
        ddp_trainer(size).fit(module, loader)
    assert len(module.log_book.drawn) == EPOCHS * 5, "Lightning has divided the data"


def test_lightning_leaves_the_sampler_alone_and_the_user_is_warned(tmp_path: Path) -> None:
    both(lightning_undivided, tmp_path / "lightning")


WHEN: dict[str, dict[str, Any]] = {
    "epoch's end": {},
    "steps": {"every_n_train_steps": 1},
    "validation's end": {"save_on_train_epoch_end": False},
}


def lightning_resumed(rank: int, size: int, folder: Path, when: str, step: int, *, keeps: bool) -> None:
    """Save on the way, go on from one checkpoint in new objects, and compare."""
    as_torchrun_does(rank, size)
    kind = Validated if when == "validation's end" else Module

    def run(ckpt_path: str | None = None) -> Log:
        checkpoint = ModelCheckpoint(
            folder, filename="{step}", save_top_k=-1, enable_version_counter=False, **WHEN[when]
        )
        trainer = ddp_trainer(size, enable_checkpointing=True, callbacks=[checkpoint])
        return fit(trainer, kind(net_without_state()), keeps=keeps, ckpt_path=ckpt_path)

    whole = run()
    again = run(str(folder / f"step={step}.ckpt"))
    assert len(again.losses) == EPOCHS * BATCHES - step
    assert_same(again.losses, whole.losses[step:])
    assert_same(again.drawn, whole.drawn[step:])
    assert_same(again.known[-1], whole.known[-1])


@pytest.mark.parametrize(
    ("when", "step"),
    [
        ("epoch's end", 3),  # in warm-up
        ("epoch's end", 9),
        ("steps", 8),
        ("steps", 9),  # the last of an epoch
        ("validation's end", 6),
    ],
)
def test_lightning_resumes(tmp_path: Path, when: str, step: int) -> None:
    both(partial(lightning_resumed, folder=tmp_path / "saved", when=when, step=step, keeps=True), tmp_path / "resume")


def test_lightning_alone_gives_all_the_first_ones_state_which_is_refused_within_an_epoch(tmp_path: Path) -> None:
    resumed = partial(lightning_resumed, folder=tmp_path / "saved", when="steps", step=8, keeps=False)
    (_, _, _), (exit_code, _, error) = run_in_processes(resumed, 2, tmp_path)
    assert exit_code == 1
    assert re.search(OF_ANOTHER, error)


def example(rank: int, size: int, name: str, flags: list[str]) -> None:
    as_torchrun_does(rank, size)
    os.environ |= {"PL_GLOBAL_SEED": "0", "PL_SEED_WORKERS": "0"}
    runpy.run_path(str(EXAMPLES / name))["main"](flags)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("accelerate_loop.py", ["--cpu"]),
        ("lightning_trainer.py", ["--accelerator", "cpu", "--devices", "2", "--save-every", "10"]),  # within an epoch
    ],
)
def test_the_example_is_the_same_script(
    name: str, options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def output(part: str, folder: str, epochs: int, *flags: str) -> list[str]:
        argv = ["--epochs", str(epochs), "--output-dir", str(tmp_path / folder), *options, *flags]
        both(partial(example, name=name, flags=argv), tmp_path / part)
        return capfd.readouterr().out.splitlines()[-2:]

    whole = output("whole", "saved whole", 3)
    output("first", "saved parts", 2)
    resumed = output("second", "saved parts", 3, "--resume")
    assert [line.split()[0] for line in whole] == ["test", "labels"], "just one process prints"
    assert resumed == whole
