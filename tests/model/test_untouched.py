"""What a forward pass may write in eval mode, and the loader's own leaves as it was: streams and buffers."""

import importlib
import logging
import random
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mixnn_loader._utils.random_state import kept_random_state
from mixnn_loader.model.predictor import ModelView

WIDTH, C = 4, 3


class Writing(nn.Module):
    """A linear model that writes buffers as a function says."""

    def __init__(self, write: Callable[[Any, Tensor], object]) -> None:
        super().__init__()
        with kept_random_state():
            self.head = nn.Linear(WIDTH, C)
        self.write = write
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("fixed", torch.tensor([torch.nan, 1.0]))
        self.register_buffer("empty", None)

    def forward(self, rows: Tensor) -> Tensor:
        self.write(self, rows)
        logits: Tensor = self.head(rows)
        return logits


def assign(model: Any, rows: Tensor) -> None:
    model.mean = 0.9 * model.mean + 0.1 * rows.mean(dim=0)


def add_and_assign(model: Any, rows: Tensor) -> None:
    model.mean += 1
    assign(model, rows)


def count(model: Any, _: Tensor) -> None:
    model.count += 1


def write_uncounted(model: Any, rows: Tensor) -> None:
    model.mean.data.mul_(0.9).add_(rows.mean(dim=0))


def write_the_same(model: Any, _: Tensor) -> None:
    model.mean.copy_(model.mean.clone())


def resize(model: Any, rows: Tensor) -> None:
    model.mean.resize_(rows.numel()).copy_(rows.flatten())


def grow(model: Any, rows: Tensor) -> None:
    model.mean = torch.cat([model.mean, rows.flatten()])


def fill(model: Any, rows: Tensor) -> None:
    model.empty = rows.mean(dim=0)


def register(model: Any, rows: Tensor) -> None:
    model.register_buffer("new", rows)


def drop(model: Any, _: Tensor) -> None:
    if hasattr(model, "count"):
        del model.count


def nothing(*_: Any) -> None:
    pass


WRITES = [assign, add_and_assign, count, write_uncounted, write_the_same, resize, grow, fill, register, drop]


def buffers(model: Any) -> dict[str, Any]:
    """Give each buffer's identity and value, also of those that are None."""
    return {
        f"{prefix}.{name}": (id(buffer), None if buffer is None else buffer.tolist().__repr__())
        for prefix, module in model.named_modules()
        for name, buffer in vars(module)["_buffers"].items()
    }


@pytest.fixture
def rows(generator: torch.Generator) -> Tensor:
    return torch.randn(6, WIDTH, generator=generator)


@pytest.mark.parametrize("need_representations", [False, True])
@pytest.mark.parametrize("write", [*WRITES, nothing])
def test_buffers_that_the_forward_pass_writes_are_put_back(
    write: Callable[[Any, Tensor], object], need_representations: bool, rows: Tensor
) -> None:
    model: Any = Writing(write)
    view = ModelView(model)
    for step in range(4):
        before = buffers(model)
        predictions = view.predict(rows, need_representations=need_representations)
        assert torch.equal(predictions.logits, model.head(rows))
        assert buffers(model) == before
        with torch.no_grad():  # the training goes on, and writes them, too
            model.mean.add_(1)
            if step % 2:
                model.mean = model.mean.clone()


@pytest.mark.parametrize("write", [*WRITES, nothing])
def test_buffers_are_put_back_where_the_model_fails(write: Callable[[Any, Tensor], object], rows: Tensor) -> None:
    def write_and_fail(model: Any, rows: Tensor) -> None:
        write(model, rows)
        raise RuntimeError("out of ideas")

    model = Writing(write_and_fail)
    before = buffers(model)
    with pytest.raises(RuntimeError, match="out of ideas"):
        ModelView(model).predict(rows)
    assert buffers(model) == before


def test_a_first_pass_that_fails_does_not_tell_which_are_written(rows: Tensor) -> None:
    """As that in channels_last of a model that cannot take it."""
    fails = True

    def fail_and_write(model: Any, rows: Tensor) -> None:
        if fails:
            raise RuntimeError("out of ideas")
        count(model, rows)

    model = Writing(fail_and_write)
    view = ModelView(model)
    before = buffers(model)
    with pytest.raises(RuntimeError, match="out of ideas"):
        view.predict(rows)
    fails = False
    view.predict(rows)
    assert buffers(model) == before


def test_buffers_that_are_written_are_named_once(rows: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="mixnn_loader")

    def both(model: Any, rows: Tensor) -> None:
        assign(model, rows)
        count(model, rows)

    view = ModelView(nn.Sequential(Writing(both)))
    for _ in range(3):
        view.recheck()
        view.predict(rows)
        view.predict(rows)
    (message,) = caplog.messages
    assert "writes its buffers '0.count', '0.mean' in eval mode: they are put back" in message


def test_only_what_is_written_is_saved(rows: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Writing(count)
    view = ModelView(model, lambda model, inputs: (model(inputs), inputs))
    view.predict(rows)
    cloned: list[int] = []
    clone = Tensor.clone

    def noted(tensor: Tensor, **options: Any) -> Tensor:
        cloned.extend(buffer.dim() for buffer in model.buffers() if buffer.data_ptr() == tensor.data_ptr())
        return clone(tensor, **options)

    monkeypatch.setattr(Tensor, "clone", noted)
    view.predict(rows)
    assert cloned == [0]  # the count, and neither of the two vectors
    view.recheck()
    view.predict(rows)
    assert cloned == [0, 1, 0, 1]


def test_a_buffer_written_later_is_warned_of_by_name_and_put_back_from_then_on(rows: Tensor) -> None:
    model = Writing(nothing)
    view = ModelView(model)
    view.predict(rows)
    model.write = count
    with pytest.warns(RuntimeWarning, match=r"has written its buffers 'count' in eval mode, as no pass before"):
        view.predict(rows)
    before = buffers(model)
    view.predict(rows)
    assert buffers(model) == before


@pytest.mark.parametrize("write", [assign, grow, fill])
def test_recheck_finds_what_is_written_by_now(write: Callable[[Any, Tensor], object], rows: Tensor) -> None:
    model = Writing(nothing)
    view = ModelView(model)
    view.predict(rows)
    model.write = write
    before = buffers(model)
    view.recheck()
    for _ in range(2):
        view.predict(rows)
        assert buffers(model) == before


@pytest.mark.parametrize("later", [False, True])
def test_a_cache_is_left_together_with_its_length(later: bool, rows: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    """As positional encodings that are made for the longest sequence so far."""
    caplog.set_level(logging.INFO, logger="mixnn_loader")

    def encode(model: Any, rows: Tensor) -> None:
        if model.length < len(rows):
            model.length = len(rows)
            model.register_buffer("empty", torch.arange(model.length))

    model: Any = Writing(encode)
    model.length = 0
    view = ModelView(model)
    if later:
        view.predict(rows[:2])
    view.predict(rows)
    assert len(model.empty) == model.length == len(rows)
    assert "has filled its buffer 'empty', a cache" in caplog.messages[-1]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
def test_a_scripted_model_has_its_buffers_back(rows: Tensor) -> None:
    class Counting(nn.Module):
        count: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, C)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, inputs: Tensor) -> Tensor:
            self.count += 1
            logits: Tensor = self.head(self.norm(inputs))
            return logits

    model = torch.jit.script(Counting())
    before = buffers(model)
    ModelView(model, lambda model, inputs: (model(inputs), inputs)).predict(rows)
    assert buffers(model) == before


def test_buffers_that_share_memory_or_have_other_names_are_put_back_and_stay_together(rows: Tensor) -> None:
    def write_elsewhere(model: Any, rows: Tensor) -> None:
        model.alias[0].add_(len(rows))
        model.part.add_(1)
        assert model.mean[0] == model.part[0], "a view of it"

    model: Any = Writing(write_elsewhere)
    model.alias = [model.count]
    model.register_buffer("part", model.mean[:2])
    before = buffers(model)
    view = ModelView(model)
    for _ in range(2):
        view.predict(rows)
        assert buffers(model) == before


def test_an_observer_of_torchs_own_stays(rows: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            quantization: Any = importlib.import_module("torch.ao.quantization")
            observers = [
                quantization.FakeQuantize(),
                quantization.MovingAveragePerChannelMinMaxObserver(ch_axis=1),
            ]
        except (ImportError, Warning):
            pytest.skip("no torch.ao.quantization without a warning")
    with kept_random_state():
        model = nn.Sequential(*observers, nn.Linear(WIDTH, C))
    view = ModelView(model)
    for factor in (1, 2):
        before = buffers(model)
        view.predict(rows, need_representations=True)
        assert buffers(model) == before
        model(factor * rows)  # ranges of the user's own passes stay
        assert buffers(model) != before


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("evaluated", [False, True])
def test_a_batchnorm_stays(momentum: float | None, evaluated: bool, rows: Tensor) -> None:
    with kept_random_state():
        model = nn.Sequential(nn.BatchNorm1d(WIDTH, momentum=momentum), nn.Linear(WIDTH, C))
    model(rows)
    model[0].train(not evaluated)
    before = buffers(model)
    ModelView(model).predict(rows)
    assert buffers(model) == before
    assert model[0].training is not evaluated


def test_buffers_without_values_are_left() -> None:
    model = Writing(count).to("meta")
    ModelView(model).predict(torch.ones(2, WIDTH, device="meta"))


class Drawing(nn.Module):
    """Draws from every global CPU stream, in eval mode, too."""

    def forward(self, rows: Tensor) -> Tensor:
        rows = functional.dropout(rows, 0.5, training=True)
        return rows + random.gauss(0, 1) + float(np.random.standard_normal())


@pytest.mark.parametrize("shape", [(6, WIDTH), (6, WIDTH, 1, 1)])
@pytest.mark.parametrize("fails", [False, True])
def test_the_random_streams_stay(shape: tuple[int, ...], fails: bool) -> None:
    def draws() -> list[float]:
        return [random.random(), random.gauss(0, 1), float(np.random.standard_normal()), float(torch.rand(()))]

    def function(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        rows = model(inputs).flatten(1)
        if fails:
            raise RuntimeError("out of ideas")
        return rows, rows

    view = ModelView(Drawing(), function)
    with kept_random_state():
        expected = [draws(), draws()]
    with kept_random_state():
        found = [draws()]
        if fails:
            with pytest.raises(RuntimeError, match="out of ideas"):
                view.predict(torch.ones(shape))
        else:
            view.predict(torch.ones(shape))
        assert [*found, draws()] == expected


def test_the_stream_of_the_models_device_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    state, calls = torch.arange(16, dtype=torch.uint8), []

    class Accelerator:
        """Stands for torch.cuda."""

        @staticmethod
        def get_rng_state(device: torch.device) -> Tensor:
            calls.append(("get", device))
            return state

        @staticmethod
        def set_rng_state(value: Tensor, device: torch.device) -> None:
            assert value is state
            calls.append(("set", device))

    monkeypatch.setattr(torch, "meta", Accelerator, raising=False)
    ModelView(nn.Linear(WIDTH, C, device="meta")).predict(torch.ones(2, WIDTH, device="meta"))
    assert calls == [("get", torch.device("meta")), ("set", torch.device("meta"))]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_stream_of_a_gpu_stays() -> None:
    class Dropping(nn.Linear):
        def forward(self, rows: Tensor) -> Tensor:
            return functional.dropout(super().forward(rows), 0.5, training=True)

    view = ModelView(Dropping(WIDTH, C, device="cuda"))
    state = torch.cuda.get_rng_state()
    view.predict(torch.ones(2, WIDTH, device="cuda"))
    assert torch.equal(torch.cuda.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_the_default_type_and_device_change_nothing(dtype: torch.dtype, rows: Tensor) -> None:
    model = Writing(assign)
    expected = ModelView(deepcopy(model)).predict(rows, need_representations=True)
    before = buffers(model)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    torch.set_default_device("meta")
    try:
        found = ModelView(model, prepare=torch.clone).predict(rows, need_representations=True)
    finally:
        torch.set_default_dtype(default)
        torch.set_default_device(None)
    assert torch.equal(found.logits, expected.logits)
    assert found.representations is not None
    assert found.representations.dtype == torch.float32
    assert found.representations.device.type == "cpu"
    assert buffers(model) == before
