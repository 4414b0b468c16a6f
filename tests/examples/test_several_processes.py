"""examples/several_processes.py on one process and on two."""

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
    accuracy, given, corrected = map(float, re.findall(r"0\.\d{3}|1\.000", output))
    return accuracy, given, corrected


def test_two_processes_do_as_well_as_one(capfd: pytest.CaptureFixture[str]) -> None:
    run(2, [])
    output = capfd.readouterr().out
    assert output.count("\n") == 2, "just one process prints"
    assert "2 processes, 20 epochs" in output
    of_two = shares(output)
    call()
    output = capfd.readouterr().out
    assert "1 process, 20 epochs" in output
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
