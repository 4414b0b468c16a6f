"""Jobs side by side, a new process each: what one holds, breaks or leaves behind does not reach the next."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

SECONDS_TO_STOP = 0.2
"""So often a job's thread asks whether it is still wanted."""

Job = TypeVar("Job")
Answer = TypeVar("Answer")


class Failure(Generic[Job]):
    """What became of a job that has no answer.

    Attributes:
        job: the job.
        reason: a traceback, or that its process is gone.
    """

    def __init__(self, job: Job, reason: str) -> None:
        self.job, self.reason = job, reason


def run_each(
    function: Callable[[Job], Answer], jobs: Sequence[Job], processes: int
) -> Generator[tuple[Job, Answer] | Failure[Job], None, None]:
    """Yield every job with its answer, as each is done; those that fail as well, the others go on.

    Unlike a pool of `multiprocessing` this notices a process that was killed, as for want of memory; and where this
    process is killed itself, the others end: they would get in the way of those that go on with their work. They end
    at once, too, where this generator is interrupted or closed, for nobody would take their answers.

    Args:
        function: of a job; it and the jobs can be pickled.
        jobs: what to do.
        processes: how many at a time.
    """
    # Ctrl-C reaches all processes of a terminal. What a thread blocks its processes block: only this one is to react.
    # The tracker comes with the first process otherwise, and that unblocks.
    resource_tracker.ensure_running()
    executor = ThreadPoolExecutor(max(1, processes), initializer=_block_interrupts)
    stop = threading.Event()
    try:
        for future in as_completed([executor.submit(_in_a_process, function, job, stop) for job in jobs]):
            yield future.result()
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def _block_interrupts() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _in_a_process(
    function: Callable[[Job], Answer], job: Job, stop: threading.Event
) -> tuple[Job, Answer] | Failure[Job]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, job))
    process.start()
    sender.close()
    while not receiver.poll(SECONDS_TO_STOP):
        if stop.is_set():
            process.terminate()
    try:
        succeeded, answer = receiver.recv()
    except EOFError:
        process.join()
        return Failure(job, f"its process ended without an answer, exit code {process.exitcode}")
    process.join()
    return (job, answer) if succeeded else Failure(job, answer)


def _answer(sender: Connection, function: Callable[[Job], Answer], job: Job) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        sender.send((True, function(job)))
    except Exception:  # noqa: BLE001  (whatever it is, it is reported)
        sender.send((False, traceback.format_exc()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
