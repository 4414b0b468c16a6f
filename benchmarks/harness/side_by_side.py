"""Jobs side by side, a new process each: what one holds, breaks or leaves behind does not reach the next."""

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

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
) -> Iterator[tuple[Job, Answer] | Failure[Job]]:
    """Yield every job with its answer, as each is done; those that fail as well, the others go on.

    Unlike a pool of `multiprocessing` this notices a process that was killed, as for want of memory; and where this
    process is killed itself, the others end: they would get in the way of those that go on with their work.

    Args:
        function: of a job; it and the jobs can be pickled.
        jobs: what to do.
        processes: how many at a time.
    """
    executor = ThreadPoolExecutor(max(1, processes))
    try:
        for future in as_completed([executor.submit(_in_a_process, function, job) for job in jobs]):
            yield future.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _in_a_process(function: Callable[[Job], Answer], job: Job) -> tuple[Job, Answer] | Failure[Job]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, job))
    process.start()
    sender.close()
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
