"""The examples for Ignite, skorch, fastai and timm: they run against the real libraries, learn and correct."""

import random
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes

EXAMPLES = Path(__file__).parents[2] / "examples"
RESULT = r"test accuracy (\d+\.\d)%\nlabels right, as given (\d+\.\d)%, after correction (\d+\.\d)%\n"

pytestmark = [  # what importing fastai and running timm's transforms say of themselves
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated"),
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
]
Capture = pytest.CaptureFixture[str]
Call = Callable[..., None]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Run an example in this process, which has imported everything already."""
    monkeypatch.syspath_prepend(EXAMPLES)
    states = random.getstate(), np.random.get_state()

    def run(name: str, library: str, *flags: str | Path) -> None:
        pytest.importorskip(library, reason=f"needs {library}")
        runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]([*map(str, flags)])

    with torch.random.fork_rng(devices=[]):
        yield run
    random.setstate(states[0])
    np.random.set_state(states[1])
    sys.modules.pop("_digits", None)


@pytest.mark.parametrize(
    ("name", "library", "epochs", "least"),
    [
        ("ignite_trainer", "ignite", 8, 75),
        ("skorch_classifier", "skorch", 8, 75),
        ("fastai_learner", "fastai", 8, 75),
        ("timm_loader", "timm", 6, 75),
    ],
)
def test_learns_and_corrects(name: str, library: str, epochs: int, least: float, call: Call, capsys: Capture) -> None:
    call(name, library, "--epochs", str(epochs))
    found = re.search(RESULT, capsys.readouterr().out)
    assert found is not None
    accuracy, given, corrected = map(float, found.groups())
    assert accuracy > least
    assert given == pytest.approx(60, abs=4)
    assert corrected > 75


def test_ignite_goes_on_where_it_was_stopped(call: Call, capsys: Capture, tmp_path: Path) -> None:
    call("ignite_trainer", "ignite", "--epochs", "6")
    expected = capsys.readouterr().out
    file = tmp_path / "digits.pt"
    with pytest.MonkeyPatch.context() as patch:
        from ignite.engine import Engine, Events

        run = Engine.run

        def stopped(engine: Engine, *arguments: object, **named: object) -> object:
            engine.add_event_handler(Events.EPOCH_COMPLETED(once=4), Engine.terminate)
            return run(engine, *arguments, **named)  # type: ignore[arg-type]

        patch.setattr(Engine, "run", stopped)
        call("ignite_trainer", "ignite", "--epochs", "6", "--checkpoint", file)
    capsys.readouterr()
    assert len(torch.load(file, weights_only=True)["loader"]["history"]) == 4
    call("ignite_trainer", "ignite", "--epochs", "6", "--checkpoint", file)
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("device", [None, "cpu"])
def test_ignite_trains_as_a_loop_of_ones_own(device: str | None) -> None:
    pytest.importorskip("ignite", reason="needs ignite")
    from ignite.engine import create_supervised_trainer

    def parts() -> tuple[nn.Module, torch.optim.Optimizer, MixNNDataLoader]:
        torch.manual_seed(0)  # of which dropout draws
        model = mlp()
        loader = MixNNDataLoader(DataLoader(Points(), 8), model, **recipes.robust(epochs=4))
        return model, torch.optim.SGD(model.parameters(), lr=0.1), loader

    model, optimizer, loader = parts()
    create_supervised_trainer(model, optimizer, MixNNLoss(), device=device).run(loader, max_epochs=4)
    own_model, own_optimizer, own_loader = parts()
    for _ in range(4):
        for inputs, targets in own_loader:
            own_optimizer.zero_grad()
            MixNNLoss()(own_model(inputs), targets).backward()
            own_optimizer.step()
    assert loader.history[-1]["phase"] == "correction"
    torch.testing.assert_close(dict(model.named_parameters()), dict(own_model.named_parameters()))
    torch.testing.assert_close(loader.soft_targets, own_loader.soft_targets)


def fastai_learner(epochs: int) -> tuple[Any, MixNNDataLoader]:
    pytest.importorskip("fastai", reason="needs fastai")
    import fastai.callback.all  # noqa: F401  (gives the Learner its methods)
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner

    model = mlp()
    loader = MixNNDataLoader(DataLoader(Points(), 8, shuffle=True), model, **recipes.robust(epochs=epochs))
    return Learner(DataLoaders(loader, DataLoader(Points(), 8)), model, loss_func=MixNNLoss()), loader


def test_fastai_s_search_for_a_learning_rate_costs_no_epoch() -> None:
    learn, loader = fastai_learner(3)
    with learn.no_bar(), learn.no_logging():
        learn.lr_find(num_it=12, show_plot=False, suggest_funcs=())
        learn.fit(3)
    assert [epoch["epoch"] for epoch in loader.history] == [0, 1, 2]
    assert [epoch["phase"] for epoch in loader.history] == ["warm-up", "correction", "correction"]


def test_fastai_counts_samples_when_it_accumulates() -> None:
    learn, loader = fastai_learner(2)
    from fastai.callback.training import GradientAccumulation

    steps = []
    learn.create_opt()
    step = learn.opt.step

    def counted(*args: Any, **kwargs: Any) -> None:
        steps.append(step(*args, **kwargs))

    learn.opt.step = counted
    with learn.no_bar(), learn.no_logging():
        learn.fit(2, cbs=GradientAccumulation(16))
    assert len(steps) == 2 * len(loader) // 2  # batches of 8
