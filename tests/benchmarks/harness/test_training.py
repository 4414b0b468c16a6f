"""A run: alike for all methods, measured, interrupted and taken up again."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.harness import training
from benchmarks.harness.data import load
from benchmarks.harness.learner import Learner
from benchmarks.harness.protocol import Method
from benchmarks.harness.recipes import recipe_for
from benchmarks.harness.samples import read_samples
from benchmarks.harness.settings import RunSettings
from benchmarks.harness.task import Task
from benchmarks.harness.training import train_and_measure
from benchmarks.methods.cross_entropy import CrossEntropy
from mixnn_loader import MixNNBatch

Make = Callable[[RunSettings, Task], Method]
make_method: Make = training.make_method


class StoppedError(RuntimeError):
    """The run was interrupted."""


def settings_of(method: str, **changes: Any) -> RunSettings:
    return RunSettings(**{"method": method, "dataset": "digits", "epochs": 6, "num_train": 192, **changes})


def watched_by(monkeypatch: pytest.MonkeyPatch, look: Callable[[Method], None]) -> None:
    """Show every method to a function after it is built."""

    def make(settings: RunSettings, task: Task) -> Method:
        method = make_method(settings, task)
        look(method)
        return method

    monkeypatch.setattr(training, "make_method", make)


def what_is_the_same(line: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a run's line what the clock and the machine decide, and the cost."""
    others = ("seconds", "peak_memory_mib", "machine", "cost")
    line = {name: value for name, value in line.items() if name not in others}
    line["epochs"] = [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in line["epochs"]]
    return line


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[dict[str, Any], Path]]:
    """Line and samples of a method's run that nothing interrupts, made once."""

    @functools.cache
    def run(method: str) -> tuple[dict[str, Any], Path]:
        samples = tmp_path_factory.mktemp(method) / "samples.npz"
        return train_and_measure(settings_of(method, watch_training=True), samples=samples), samples

    return run


@pytest.mark.parametrize(
    ("method", "stop"), [("ce", 0), ("ce", 4), ("mixup", 3), ("mixnn", 1), ("mixnn", 5), ("mixnn-batch", 3)]
)
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    method: str,
    stop: int,
    whole_runs: Callable[[str], tuple[dict[str, Any], Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = settings_of(method, watch_training=True)
    whole, samples_of_whole = whole_runs(method)
    trained: list[int] = []

    def note(method: Method) -> None:
        step, begin = method.step, method.begin_epoch

        def begin_epoch(epoch: int) -> None:
            trained.append(epoch)
            begin(epoch)

        def stop_in_an_epoch(batch: Any) -> None:
            step(batch)
            if trained == list(range(stop + 1)):
                trained.append(-1)
                raise StoppedError

        monkeypatch.setattr(method, "begin_epoch", begin_epoch)
        monkeypatch.setattr(method, "step", stop_in_an_epoch)

    watched_by(monkeypatch, note)
    checkpoint, samples = tmp_path / "run.pt", tmp_path / "resumed.npz"
    with pytest.raises(StoppedError):
        train_and_measure(settings, checkpoint=checkpoint, samples=samples)
    resumed = train_and_measure(settings, checkpoint=checkpoint, samples=samples)
    assert trained == [*range(stop + 1), -1, *range(stop, 6)], "no epoch that was finished is trained again"
    # MixNN looks at the first batch of a process twice, to find out what would fail later.
    assert resumed["cost"]["forward"] - whole["cost"]["forward"] == (2 * 64 if method.startswith("mixnn") else 0)
    assert what_is_the_same(resumed) == what_is_the_same(whole)
    for expected, found in zip(read_samples(samples_of_whole), read_samples(samples), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_run_that_was_stopped_after_its_last_epoch_is_only_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, checkpoint = settings_of("ce"), tmp_path / "run.pt"
    whole = train_and_measure(settings, checkpoint=checkpoint)
    watched_by(monkeypatch, lambda method: monkeypatch.setattr(method, "step", pytest.fail))
    assert what_is_the_same(train_and_measure(settings, checkpoint=checkpoint)) == what_is_the_same(whole)


def test_a_checkpoint_that_is_broken_says_what_to_do(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.pt"
    checkpoint.write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"cannot go on from .*run\.pt, .*; remove it, and the run starts anew"):
        train_and_measure(settings_of("ce"), checkpoint=checkpoint)


def test_noise_initial_weights_and_order_are_the_same_for_all_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[Any]] = {}
    for name in ("ce", "label-smoothing", "mixnn", "mixnn-batch"):
        notes: list[Any] = []

        def note(method: Method, notes: list[Any] = notes) -> None:
            notes.append(method.task.labels.clone())
            learner = method.learner
            assert isinstance(learner, Learner)
            notes.extend(value.clone() for value in learner.network.state_dict().values())
            step = method.step

            def note_order(batch: Any) -> None:
                notes.append((batch.targets if isinstance(batch, MixNNBatch) else batch).indices.clone())
                step(batch)

            monkeypatch.setattr(method, "step", note_order)

        with monkeypatch.context():
            watched_by(monkeypatch, note)
            train_and_measure(settings_of(name))
        seen[name] = notes
    expected = seen.pop("ce")
    assert len(expected) > 6 * 3
    orders = [
        part for part in expected if isinstance(part, Tensor) and part.shape == (64,) and part.dtype == torch.int64
    ]
    assert not torch.equal(orders[-1], orders[-4]), "every epoch has an order of its own"
    for notes in seen.values():
        assert len(notes) == len(expected)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(notes, expected, strict=True))


def test_another_seed_has_other_noise_weights_and_order() -> None:
    def parts(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        settings = settings_of("ce", seed=seed)
        data = load("digits", None, recipe_for(settings))
        given = training.given_labels(settings, data)
        task = Task(data.train, data.scan, given, 10, data.shape, recipe_for(settings), 0.4, seed, torch.device("cpu"))
        task.begin_epoch(0)
        return given, next(task.network().parameters()), next(iter(task.batches())).indices

    for ours, theirs in zip(parts(0), parts(1), strict=True):
        assert not torch.equal(ours, theirs)
    for ours, theirs in zip(parts(1), parts(1), strict=True):
        assert torch.equal(ours, theirs)


def test_to_watch_a_run_does_not_change_it() -> None:
    plain, watched = (train_and_measure(settings_of("mixnn", watch_training=watched)) for watched in (False, True))
    assert [epoch["test"] for epoch in plain["epochs"]] == [epoch["test"] for epoch in watched["epochs"]]
    assert plain["labels"] == watched["labels"]
    assert ["training" in epoch for epoch in plain["epochs"]] == [False] * 5 + [True]
    assert all("training" in epoch for epoch in watched["epochs"])


def test_a_method_steps_in_train_mode_and_predicts_in_eval_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[str, bool]] = set()

    def note(method: Method) -> None:
        for name in ("step", "predict"):
            call = getattr(method, name)

            def noting(argument: Any, name: str = name, call: Callable[[Any], Any] = call) -> Any:
                seen.add((name, method.training))
                return call(argument)

            monkeypatch.setattr(method, name, noting)

    watched_by(monkeypatch, note)
    train_and_measure(settings_of("ce", epochs=2))
    assert seen == {("step", True), ("predict", False)}


@pytest.mark.parametrize(
    ("noise", "nominal", "wrong"),
    [("symmetric", 0.4, 0.4), ("symmetric-inclusive", 0.4, 0.3), ("given", 0.25, 0.25)],  # of four classes
)
def test_who_has_to_be_told_a_rate_is_told_that_of_the_labels(
    noise: str, nominal: float, wrong: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = torch.arange(8) % 4
    given = labels.clone()
    given[:2] = (given[:2] + 1) % 4
    file = tmp_path / "features.pt"
    rows = torch.randn(8, 3)
    torch.save({"train": rows, "test": rows, "labels": labels, "test_labels": labels, "given": given}, file)
    rates: list[tuple[float, float]] = []
    watched_by(monkeypatch, lambda method: rates.append((method.task.noise_rate, method.task.wrong_share)))
    train_and_measure(RunSettings("ce", "features", noise=noise, epochs=1), file)
    assert rates == [(nominal, wrong)]


@pytest.mark.parametrize(
    ("method", "options", "schedule"),
    [
        ("ce", {}, (2, 4)),
        ("mixnn", {"warmup_epochs": 1, "correction_epoch": None}, (1, None)),
        ("mixnn-robust", {}, (1, 1)),
    ],
)
def test_a_line_has_the_schedule_that_the_method_goes_by(
    method: str, options: dict[str, Any], schedule: tuple[int, int | None]
) -> None:
    line = train_and_measure(settings_of(method, options=options))
    assert tuple(line["schedule"].values()) == schedule


def test_a_line_says_what_was_run_and_what_came_out(monkeypatch: pytest.MonkeyPatch) -> None:
    methods: list[Method] = []
    watched_by(monkeypatch, methods.append)
    settings = settings_of("mixnn", rate=0.3, noise="pair", epochs=13)
    line = train_and_measure(settings)
    assert line["key"] == settings.key
    assert line["settings"] == settings.as_dict()
    assert line["schedule"] == {"warmup_epochs": 4, "correction_epoch": 8}
    assert line["num_train"] == 192
    data = load("digits", None, recipe_for(settings))
    given = training.given_labels(settings, data)
    assert line["actual_noise_rate"] == pytest.approx((given != data.labels).double().mean().item())
    assert ((given - data.labels) % 10 <= 1).all()

    # Its last measurements, from the method itself.
    test: Any = data.test
    network, targets = methods[0].eval(), torch.as_tensor(test.targets)
    with torch.no_grad():
        inputs = torch.stack([test[index][0] for index in range(len(targets))])
        predicted = network.predict(inputs).argmax(dim=1)
    accuracies = [epoch["test"]["accuracy"] for epoch in line["epochs"]]
    assert accuracies[-1] == pytest.approx(100 * (predicted == targets).double().mean().item())
    assert line["figures"]["last"] == line["epochs"][-1]["test"]
    assert line["figures"]["mean_of_last_10"]["accuracy"] == pytest.approx(np.mean(accuracies[-10:]))
    assert line["figures"]["oracle"]["accuracy"] == max(accuracies)
    assert line["seconds"] == pytest.approx(sum(epoch["seconds"] for epoch in line["epochs"]))
    corrected = network.corrected_labels()
    assert corrected is not None
    assert line["labels"]["right"] == pytest.approx(100 * (corrected == data.labels).double().mean().item())


def test_what_is_kept_of_samples_is_what_the_method_says_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods: list[Method] = []
    watched_by(monkeypatch, methods.append)
    settings = settings_of("ce", watch_training=True)
    train_and_measure(settings, samples=tmp_path / "folder" / "samples.npz")
    samples = read_samples(tmp_path / "folder" / "samples.npz")
    data = load("digits", None, recipe_for(settings))
    given = training.given_labels(settings, data).numpy()
    np.testing.assert_array_equal(samples.true, data.labels)
    np.testing.assert_array_equal(samples.given, given)
    np.testing.assert_array_equal(samples.corrected, given)  # cross-entropy corrects none
    np.testing.assert_array_equal(samples.epochs, [1, 5])
    inputs = torch.stack([data.scan[index][0] for index in range(192)])
    method = methods[0].eval()
    assert isinstance(method, CrossEntropy)
    with torch.no_grad():
        probabilities, representations = method.predict(inputs), method.learner.network.represent(inputs)
    np.testing.assert_allclose(samples.losses[-1], -np.log(probabilities.numpy()[np.arange(192), given]), atol=1e-5)
    assert np.abs(samples.losses[0] - samples.losses[1]).max() > 0.01
    np.testing.assert_allclose(samples.representations[-1], representations.numpy()[samples.shown], atol=1e-5)


def test_noise_of_its_own_is_asked_of_data_that_have_it() -> None:
    with pytest.raises(ValueError, match="digits comes with no noisy labels"):
        train_and_measure(settings_of("ce", noise="given"))


def test_an_option_that_a_method_does_not_have_is_named() -> None:
    with pytest.raises(ValueError, match=r"mixnn: .*unknown argument 'neighbours'; did you mean 'neighbors'"):
        train_and_measure(settings_of("mixnn", options={"neighbours": "batch"}))
