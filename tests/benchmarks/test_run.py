"""The command line: which runs it makes, which it does not make again, and what it says to mistakes."""

import argparse
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from result_lines import result_line

from benchmarks import run
from benchmarks.harness.results import append_result, checkpoint_file, read_results
from benchmarks.harness.settings import RunSettings
from benchmarks.harness.side_by_side import Failure
from benchmarks.methods import all_methods


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[RunSettings]:
    """What was run: made up, in this process; a seed of 13 fails."""
    runs: list[RunSettings] = []

    def run_each(_: Any, jobs: Sequence[RunSettings], processes: int) -> Iterator[Any]:
        assert processes >= 1
        for settings in jobs:
            runs.append(settings)
            line = result_line() | {"key": settings.key, "settings": settings.as_dict()}
            yield Failure(settings, "bad luck") if settings.seed == 13 else (settings, line)

    monkeypatch.setattr(run, "run_each", run_each)
    return runs


def test_seeds_vary_slowest_so_that_every_method_gets_its_first_soonest(ran: list[RunSettings], tmp_path: Path) -> None:
    flags = ["--method", "ce", "mixnn", "--rate", "0.2", "0.4", "--seeds", "0", "1", "--epochs", "3"]
    assert run.main([*flags, "--output", str(tmp_path / "results.jsonl")]) == 0
    assert [(settings.seed, settings.rate, settings.method) for settings in ran] == [
        (seed, rate, method) for seed in (0, 1) for rate in (0.2, 0.4) for method in ("ce", "mixnn")
    ]
    assert {settings.epochs for settings in ran} == {3}


def test_what_the_file_has_is_not_run_again(ran: list[RunSettings], tmp_path: Path, capsys: Any) -> None:
    output = str(tmp_path / "results.jsonl")
    assert run.main(["--seeds", "0", "1", "--output", output]) == 0
    assert run.main(["--seeds", "0", "1", "2", "--output", output]) == 0
    assert [settings.seed for settings in ran] == [0, 1, 2]
    assert "2 of 3 runs are in" in capsys.readouterr().err
    assert [line["settings"]["seed"] for line in read_results(tmp_path / "results.jsonl")] == [0, 1, 2]


def test_a_run_that_fails_is_reported_and_tried_again(ran: list[RunSettings], tmp_path: Path, capsys: Any) -> None:
    output = str(tmp_path / "results.jsonl")
    assert run.main(["--seeds", "13", "0", "--output", output]) == 1
    said = capsys.readouterr().err
    assert said.startswith("ce, digits, symmetric 40%, seed 13: bad luck\n")
    assert said.endswith("1 of 2 runs failed:\n  ce, digits, symmetric 40%, seed 13: bad luck\n")
    assert run.main(["--seeds", "13", "0", "--output", output]) == 1
    assert [settings.seed for settings in ran] == [13, 0, 13]


def test_a_checkpoint_is_kept_until_the_line_is_in_the_file(
    ran: list[RunSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "results.jsonl"
    checkpoint = checkpoint_file(output, RunSettings("ce", "digits").key)
    checkpoint.parent.mkdir()
    checkpoint.touch()

    def full(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(run, "append_result", full)
        with pytest.raises(OSError, match="no space left"):
            run.main(["--output", str(output)])
    assert checkpoint.exists()
    assert run.main(["--output", str(output)]) == 0
    assert not checkpoint.exists()
    assert len(ran) == 2


def test_an_interruption_is_a_line_and_not_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def interrupted(*_: Any) -> Iterator[Any]:
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_each", interrupted)
    assert run.main(["--output", str(tmp_path / "results.jsonl")]) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err


def test_all_stands_for_every_method(ran: list[RunSettings], tmp_path: Path) -> None:
    assert run.main(["--method", "all", "--dataset", "digits", "--output", str(tmp_path / "results.jsonl")]) == 0
    assert [settings.method for settings in ran] == list(all_methods())


def test_a_grid_can_be_cut_to_a_part(ran: list[RunSettings], tmp_path: Path) -> None:
    grid = tmp_path / "grid.toml"
    text = 'dataset = ["digits", "mnist"]\nmethod = ["all"]\nseed = [0, 1]\nrate = 0.2\nwatch_training = true'
    grid.write_text(text, encoding="utf-8")
    flags = ["--method", "mixnn", "ce", "--dataset", "digits", "--seeds", "1", "--epochs", "2", "--num-train", "50"]
    assert run.main(["--grid", str(grid), *flags, "--output", str(tmp_path / "results.jsonl")]) == 0
    expected = partial(RunSettings, dataset="digits", rate=0.2, seed=1, epochs=2, num_train=50, watch_training=True)
    assert ran == [expected("ce"), expected("mixnn")]


def test_options_and_changes_of_the_recipe_are_read_as_python_or_toml_writes_them(
    ran: list[RunSettings], tmp_path: Path
) -> None:
    flags = [
        "--option",
        "correction_epoch=None",
        "neighbors=batch",
        "momentum=0.8",
        "--recipe",
        "lr=0.1",
        "flip=true",
        "held_out=false",
    ]
    assert run.main(["--method", "mixnn", *flags, "--output", str(tmp_path / "results.jsonl")]) == 0
    assert ran[0].options == {"correction_epoch": None, "neighbors": "batch", "momentum": 0.8}
    assert ran[0].recipe == {"lr": 0.1, "flip": True, "held_out": False}


GRID = 'dataset = "digits"\nmethod = "ce"'


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method", "elf"], "argument --method: there is no elf; there are "),
        (["--dataset", "imagenet"], "argument --dataset: invalid choice"),
        (["--dataset", "mnist"], "argument --data-dir: mnist needs one"),
        (["--dataset", "mnist", "--data-dir", "/no/such/folder"], "argument --data-dir: there is no /no/such/folder"),
        (
            ["--noise", "asymmetric"],
            "argument --noise: asymmetric is between similar classes of CIFAR; for digits take",
        ),
        (["--noise", "loud"], "argument --noise: invalid choice"),
        (["--rate", "1.5"], "argument --rate: must lie in [0, 1), got 1.5"),
        (["--rate", "x"], "argument --rate: invalid fraction value: 'x'"),
        (["--seeds", "-1"], "argument --seeds: must be at least 0, got -1"),
        (["--epochs", "0"], "argument --epochs: must be at least 1, got 0"),
        (["--num-train", "0"], "argument --num-train: must be at least 1, got 0"),
        (["--processes", "0"], "argument --processes: must be at least 1, got 0"),
        (["--device", "abacus"], "argument --device: 'abacus' cannot be used"),
        (["--recipe", "lr"], "argument --recipe: expected NAME=VALUE, got 'lr'"),
        (["--recipe", "lr=-1"], "argument --recipe: lr must be above 0, got -1"),
        (["--recipe", "batch_size=0"], "argument --recipe: batch_size must be above 0, got 0"),
        (["--recipe", "warmup_epochs=-5"], "argument --recipe: warmup_epochs must not be negative, got -5"),
        (["--recipe", "rate=1"], "argument --recipe: it has no rate; it has balanced_batches"),
        (["--recipe", "lr=fast"], "argument --recipe: lr must be int | float, got 'fast'"),
        (["--option", "smoothing={1}"], "argument --option: 'smoothing={1}' cannot be written"),
        (["--method", "elr", "--option", "momentum=high"], "elr: momentum must be None or float, got 'high'"),
        (["--method", "elr", "--option", "momentum=True"], "elr: momentum must be None or float, got True"),
        (["--option", "smoth=0.1"], "argument --option: ce: got an unexpected keyword argument 'smoth'; its options: "),
        (["--grid", "/no/such/file"], "/no/such/file"),
        (["--grid", "GRID", "--rate", "0.2"], "argument --rate: not allowed with --grid"),
        (["--grid", "GRID", "--watch-training"], "argument --watch-training: not allowed with --grid"),
        (["--grid", "GRID", "--seeds", "7"], "has no run of that --dataset and those --seeds"),
        (["--grid", "GRID", "--method", "mixnn"], "has no run of mixnn"),
        (["--grid", "GRID", "--method", "ce", "elf"], "argument --method: there is no elf; there are "),
        (["--grid", "METHOD"], "METHOD: method: there is no elf; there are "),
        (["--grid", "NOISE"], "NOISE: noise: must be one of symmetric, "),
    ],
)
def test_a_mistake_is_a_usage_error_that_names_the_flag(
    flags: list[str], message: str, ran: list[RunSettings], tmp_path: Path, capsys: Any
) -> None:
    for name, text in (
        ("GRID", GRID),
        ("METHOD", GRID.replace("ce", "elf")),
        ("NOISE", f'{GRID}\nnoise = "loud"'),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    flags = [str(tmp_path / flag) if flag in ("GRID", "METHOD", "NOISE") else flag for flag in flags]
    with pytest.raises(SystemExit) as caught:
        run.main([*flags, "--output", str(tmp_path / "results.jsonl")])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert ran == []


def test_an_output_that_holds_something_else_is_a_usage_error(ran: list[RunSettings], tmp_path: Path) -> None:
    output = tmp_path / "results.jsonl"
    output.write_text("a diary\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        run.main(["--output", str(output)])
    assert ran == []
    assert output.read_text(encoding="utf-8") == "a diary\n"


def test_an_output_that_cannot_be_written_is_a_usage_error(ran: list[RunSettings], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        run.main(["--output", str(tmp_path / "file" / "results.jsonl")])
    assert ran == []


def test_a_job_goes_to_its_process_and_leaves_its_samples_beside_the_results(tmp_path: Path) -> None:
    args = argparse.Namespace(output=tmp_path / "results.jsonl", data_dir=None, device="cpu")
    job: Callable[[RunSettings], Any] = pickle.loads(pickle.dumps(partial(run.attempt, args=args)))
    settings = RunSettings("ce", "digits", epochs=1, num_train=64, watch_training=True)
    line = job(settings)
    append_result(args.output, line)
    assert read_results(args.output) == [line]
    assert (tmp_path / "results.samples" / f"{settings.key}.npz").exists()
    assert checkpoint_file(args.output, settings.key).exists(), "for as long as its line is not in the file"
