"""Jobs in processes of their own, such as die."""

import math
import os
import signal
import time

from benchmarks.harness.side_by_side import Failure, run_each


def test_answers_come_with_their_jobs() -> None:
    assert set(run_each(math.sqrt, [4.0, 9.0, 16.0], 2)) == {(4.0, 2.0), (9.0, 3.0), (16.0, 4.0)}


def test_one_that_fails_is_reported_and_the_others_go_on() -> None:
    answers = {getattr(answer, "job", None): answer for answer in run_each(math.sqrt, [-1.0, 4.0], 1)}
    failure = answers[-1.0]
    assert isinstance(failure, Failure)
    assert "ValueError" in failure.reason
    assert answers[None] == (4.0, 2.0)


def test_one_whose_process_ends_is_reported() -> None:
    (failure,) = run_each(os._exit, [3], 1)
    assert isinstance(failure, Failure)
    assert failure.reason == "its process ended without an answer, exit code 3"


def test_what_is_still_going_on_ends_at_once_where_nobody_takes_its_answer() -> None:
    answers = run_each(time.sleep, [0.0, 100.0], 2)
    assert next(answers) == (0.0, None)
    start = time.monotonic()
    answers.close()
    assert time.monotonic() - start < 50


def test_ctrl_c_is_left_to_the_process_that_started_them() -> None:
    assert list(run_each(signal.raise_signal, [signal.SIGINT], 1)) == [(signal.SIGINT, None)]


def test_without_jobs_there_are_no_answers() -> None:
    assert list(run_each(math.sqrt, [], 2)) == []
