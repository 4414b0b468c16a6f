"""examples/several_processes.py on one process and on two."""

import errno
import multiprocessing
import os
import re
import runpy
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "examples" / "several_processes.py"


def call(*argv: str) -> None:
    """Run the script in this process."""
    script: dict[str, Any] = runpy.run_path(str(SCRIPT))
    with torch.random.fork_rng(devices=[]):
        script["main"](argv)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def as_torchrun_does(rank: int, size: int, port: int, argv: list[str]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    call(*argv)


def run(size: int, argv: list[str]) -> None:
    context, port = multiprocessing.get_context("fork"), free_port()
    processes = [context.Process(target=as_torchrun_does, args=(rank, size, port, argv)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)
    assert [process.exitcode for process in processes] == [0] * size


def shares(output: str) -> tuple[float, float, float]:
    """Read the accuracy and the shares of right labels, as given and after correction."""
    result = output.splitlines()[-2:]
    accuracy, given, corrected = map(float, re.findall(r"0\.\d{3}|1\.000", "".join(result)))
    return accuracy, given, corrected


def test_two_processes_do_as_well_as_one(capfd: pytest.CaptureFixture[str]) -> None:
    run(2, ["--epochs", "8"])
    output = capfd.readouterr().out
    assert output.count("\n") == 10, "just one process prints: a line an epoch, and the result"
    assert re.match(r"epoch 0: warm-up, last loss \d\.\d{3}\nepoch 1: ", output)
    assert "2 processes, 8 epochs" in output
    of_two = shares(output)
    call("--epochs", "8")
    output = capfd.readouterr().out
    assert "1 process, 8 epochs" in output
    of_one = shares(output)
    assert of_one[1] == of_two[1]
    for of_run in (of_one, of_two):
        assert of_run[0] > 0.8
        assert of_run[2] > of_run[1] + 0.2


def test_a_run_of_two_processes_goes_on_in_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint = tmp_path / "run.pt"
    run(2, ["--epochs", "5", "--checkpoint", str(checkpoint)])
    call("--epochs", "6", "--checkpoint", str(checkpoint), "--resume")
    assert "1 process, 6 epochs" in capfd.readouterr().out
    state = torch.load(checkpoint, weights_only=True)["loader"]
    assert [record["epoch"] for record in state["history"]] == list(range(6))


def test_nothing_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call("--resume", "--checkpoint", str(tmp_path / "none.pt"))
    assert "--resume needs a --checkpoint that exists" in capsys.readouterr().err


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "digits.pt"
    call("--epochs", "2", "--checkpoint", str(file))
    before = file.read_bytes()

    def fails(_: Any, target: Path) -> None:
        target.write_bytes(before[: len(before) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(torch, "save", fails)
        with pytest.raises(OSError, match="No space left"):
            call("--epochs", "3", "--checkpoint", str(file), "--resume")
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    call("--epochs", "3", "--checkpoint", str(file), "--resume")
    assert len(torch.load(file, weights_only=True)["loader"]["history"]) == 3


def test_a_checkpoint_needs_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "none" / "digits.pt"
    with pytest.raises(SystemExit, match="2"):
        call("--checkpoint", str(file))
    output = capsys.readouterr()
    assert f"--checkpoint must be in a folder that exists, got {file}: make the folder first" in output.err
    assert output.out == ""


def test_help_describes_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        call("--help")
    text = capsys.readouterr().out
    assert "of which 40 % have a wrong label" in text
    assert "%%" not in text
    assert "(default: 20)" in text
    flags_alone = re.findall(r"^  (--\S+(?: \S+)*)\n(?!   )", text, flags=re.MULTILINE)
    assert flags_alone == []
