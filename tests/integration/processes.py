"""Run a function in several processes that form a group."""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

PATIENCE = 90
"""Seconds after which processes count as hung."""


def run_in_processes(
    function: Callable[[int, int], Any], size: int, folder: Path, *, timeout: float = 60
) -> list[tuple[int | None, Any, str]]:
    """Call ``function(rank, size)`` in each of ``size`` new processes, with gloo as the default group.

    Args:
        function: what to call.
        size: how many processes.
        folder: an empty one, for what the processes leave.
        timeout: of the group, in seconds.

    Returns:
        Of each process its exit code, what the function returned, and the traceback if it raised.
    """
    context = multiprocessing.get_context("fork")  # imports take seconds, and have been made
    processes = [context.Process(target=_call, args=(function, rank, size, folder, timeout)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    hung = [process.pid for process in processes if process.is_alive()]
    for process in processes:
        process.kill()
    assert not hung, "processes hang"
    outcomes = []
    for rank, process in enumerate(processes):
        file, error = folder / f"{rank}.pt", folder / f"{rank}.txt"
        returned = torch.load(file, weights_only=False) if file.exists() else None
        outcomes.append((process.exitcode, returned, error.read_text() if error.exists() else ""))
    return outcomes


def results_of(function: Callable[[int, int], Any], size: int, folder: Path) -> list[Any]:
    """Call ``function(rank, size)`` as `run_in_processes` does, and return what it returned, by rank."""
    outcomes = run_in_processes(function, size, folder)
    assert [exit_code for exit_code, _, _ in outcomes] == [0] * size, "\n".join(text for _, _, text in outcomes)
    return [returned for _, returned, _ in outcomes]


def _call(function: Callable[[int, int], Any], rank: int, size: int, folder: Path, timeout: float) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=timeout),
    )
    exit_code = 1
    try:
        torch.save(function(rank, size), folder / f"{rank}.pt")
        if dist.is_initialized():
            dist.barrier()
        exit_code = 0
    finally:
        if exit_code > 0:
            (folder / f"{rank}.txt").write_text(traceback.format_exc())
        sys.stdout.flush()
        os._exit(exit_code)  # at once: taking a group down may wait for processes that have ended
