"""The documented order with Hugging Face Accelerate, and the other ones."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.test_utils.testing import AccelerateTestCase
from torch import Tensor, nn
from torch.utils.data import DataLoader
from toy import MLP, Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss

RIGHT_ORDER = (
    r"already prepared; loader = MixNNDataLoader\(loader, model\) with the loader as you built it, and prepare only "
    r"the model and the optimizer: model, optimizer = accelerator\.prepare\(model, optimizer\)"
)


class Run:
    """A small training; ``accelerator`` None is the plain loop."""

    def __init__(self, accelerator: Accelerator | None, num_workers: int = 0) -> None:
        self.accelerator = accelerator
        self.model: Any = mlp()
        self.optimizer: Any = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        generator = torch.Generator().manual_seed(0)
        loader = DataLoader(Points(), 10, shuffle=True, generator=generator, num_workers=num_workers)
        if accelerator is not None:
            self.model, self.optimizer = accelerator.prepare(self.model, self.optimizer)
        self.loader = MixNNDataLoader(loader, self.model, warmup_epochs=1, correction_epoch=2)
        if accelerator is not None:
            accelerator.register_for_checkpointing(self.loader)
        self.criterion = MixNNLoss()
        self.losses: list[float] = []

    def step(self, batch: Any) -> None:
        loss = self.criterion(self.model(batch.inputs), batch)
        if self.accelerator is None:
            loss.backward()
        else:
            self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.losses.append(loss.item())

    def epochs(self, number: int) -> "Run":
        for _ in range(number):
            for batch in self.loader:
                self.step(batch)
        return self

    def kept(self) -> dict[str, Tensor]:
        """All that the training has made."""
        own = {"soft targets": self.loader.soft_targets, "P": self.loader.clean_probability}
        return own | {"neighbors": self.loader.neighbor_indices, **self.model.state_dict()}


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its settings for the whole process; let each test choose its own, and its random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    AccelerateTestCase().tearDown()


def assert_same(run: Run, other: Run) -> None:
    assert run.losses == other.losses
    for name, value in other.kept().items():
        assert torch.equal(run.kept()[name], value), name


def test_the_documented_order_trains_as_the_plain_loop_does() -> None:
    state = torch.get_rng_state()
    plain = Run(None).epochs(4)
    torch.set_rng_state(state)
    assert_same(Run(Accelerator(cpu=True)).epochs(4), plain)
    assert [record["phase"] for record in plain.loader.history] == ["warm-up", "mixing", "correction", "correction"]


def test_accumulate_steps_every_other_batch_across_epochs() -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=3)
    run = Run(accelerator)
    stepped = []
    for _ in range(3):
        for batch in run.loader:
            with accelerator.accumulate(run.model):
                before = run.model.head.weight.detach().clone()
                run.step(batch)
                stepped.append(not torch.equal(before, run.model.head.weight))
    assert stepped == [False, False, True] * 4


def test_accumulated_gradients_are_the_mean_over_the_batches() -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    run, plain = Run(accelerator), Run(None)
    for once in (run, plain):
        once.model.eval()  # without dropout, and with one and the same BatchNorm for all batches
    before = {name: value.clone() for name, value in run.model.named_parameters()}
    for batch in run.loader:
        with accelerator.accumulate(run.model):
            run.step(batch)
    for batch in plain.loader:
        (plain.criterion(plain.model(batch.inputs), batch) / 4).backward()
    for name, parameter in plain.model.named_parameters():
        torch.testing.assert_close(run.model.get_parameter(name), before[name] - 0.1 * parameter.grad)


def test_what_is_registered_resumes_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    run = Run(accelerator).epochs(3)
    accelerator.save_state(str(tmp_path))
    run.losses = []
    run.epochs(2)

    AccelerateTestCase().tearDown()
    torch.manual_seed(1)
    accelerator = Accelerator(cpu=True)
    resumed = Run(accelerator)
    resumed.model.head.weight.data.zero_()
    accelerator.load_state(str(tmp_path))
    assert_same(resumed.epochs(2), run)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 3, 4])
def test_what_is_registered_resumes_within_an_epoch(tmp_path: Path, stop: int, num_workers: int) -> None:
    accelerator = Accelerator(cpu=True)
    run = Run(accelerator, num_workers).epochs(2)
    for number, batch in enumerate(run.loader, start=1):
        run.step(batch)
        if number == stop:
            accelerator.save_state(str(tmp_path))
            run.losses = []
    run.epochs(1)

    AccelerateTestCase().tearDown()
    accelerator = Accelerator(cpu=True)
    resumed = Run(accelerator, num_workers)
    accelerator.load_state(str(tmp_path))
    assert_same(resumed.epochs(4 - resumed.loader.epoch), run)


@pytest.mark.parametrize("prepare", ["prepare", "prepare_data_loader"])
def test_a_prepared_loader_is_refused(prepare: str) -> None:
    prepared = getattr(Accelerator(cpu=True), prepare)(DataLoader(Points(), 10))
    with pytest.raises(TypeError, match=RIGHT_ORDER):
        MixNNDataLoader(prepared, mlp())


def test_what_is_left_of_a_prepared_loader_is_refused() -> None:
    rest = skip_first_batches(Accelerator(cpu=True).prepare(DataLoader(Points(), 10)), 1)
    with pytest.raises(TypeError, match=RIGHT_ORDER):
        MixNNDataLoader(rest, mlp())


def test_prepare_passes_the_wrapped_loader_through() -> None:
    accelerator = Accelerator(cpu=True)
    model = mlp()
    loader = MixNNDataLoader(DataLoader(Points(), 10), model)
    prepared_model, prepared_loader = accelerator.prepare(model, loader)
    assert prepared_loader is loader
    assert prepared_model is model


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_a_model_prepared_after_the_loader_was_built_is_looked_at_as_prepared(mixed_precision: str) -> None:
    accelerator = Accelerator(cpu=True, mixed_precision=mixed_precision)
    model, points = mlp(), Points()
    loader = MixNNDataLoader(DataLoader(points, 10), model, warmup_epochs=0)
    model = accelerator.prepare(model)
    next(iter(loader))
    assert_scanned(loader, model, points)


def test_mixed_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    forward = nn.Linear.forward

    def watched(layer: nn.Linear, inputs: Tensor) -> Tensor:
        outputs = forward(layer, inputs)
        seen.append(outputs.dtype)
        return outputs

    monkeypatch.setattr(nn.Linear, "forward", watched)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    run = Run(accelerator)
    run.model.body[1].eval()  # a frozen layer
    before = deepcopy(run.model.state_dict())
    flags = [module.training for module in run.model.modules()]
    run.epochs(3)
    assert set(seen) == {torch.bfloat16}
    assert [module.training for module in run.model.modules()] == flags
    assert all(not torch.equal(before[name], value) for name, value in run.model.named_parameters())
    assert (run.loader.neighbor_indices >= 0).all()


def assert_scanned(loader: MixNNDataLoader, model: MLP, points: Points) -> None:
    """Check that the loader's losses are those of the model as it is."""
    flags = [module.training for module in model.modules()]
    with torch.no_grad():
        logits = model.eval()(points.inputs)
    for module, flag in zip(model.modules(), flags, strict=True):
        module.training = flag
    assert logits.dtype == torch.float32
    torch.testing.assert_close(loader.losses, nn.functional.cross_entropy(logits, points.labels, reduction="none"))
