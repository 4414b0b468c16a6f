"""A results file, also one that a killed process has left."""

import fcntl
import threading
from pathlib import Path

import pytest
from result_lines import result_line

from benchmarks.harness.results import append_result, read_results

ONE, TWO = result_line("ce"), result_line("mixnn")


def test_reads_what_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "results.jsonl"
    append_result(path, ONE)
    append_result(path, TWO)
    assert read_results(path) == [ONE, TWO]
    assert path.read_text(encoding="utf-8").count("\n") == 2


def test_of_a_run_that_is_there_twice_the_later_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    append_result(first, ONE)
    append_result(second, ONE | {"seconds": 5.0})
    assert read_results([first, second]) == [ONE | {"seconds": 5.0}]


@pytest.mark.parametrize("length", [1, 40, -2])
def test_a_line_that_a_killed_process_has_begun_is_passed_over_and_then_replaced(length: int, tmp_path: Path) -> None:
    path, whole = tmp_path / "results.jsonl", tmp_path / "whole.jsonl"
    append_result(path, ONE)
    append_result(whole, TWO)
    with path.open("ab") as file:
        file.write(whole.read_bytes()[:length])
    assert read_results(path) == [ONE]
    append_result(path, TWO)
    assert read_results(path) == [ONE, TWO]


def test_a_last_line_that_only_lacks_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append_result(path, ONE)
    path.write_bytes(path.read_bytes().rstrip())
    assert read_results(path) == [ONE]
    append_result(path, TWO)
    assert read_results(path) == [ONE, TWO]


@pytest.mark.parametrize("text", ["no JSON", "[]", "{}", '{"key": "a"}'])
def test_refuses_a_file_of_something_else(text: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(f"{text}\n\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"results\.jsonl, line 1 is not a run's result"):
        read_results(path)


def test_refuses_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"\x1f\x8b\xff\n")
    with pytest.raises(ValueError, match=r"results\.jsonl, line 1 is not a run's result"):
        read_results(path)


def test_waits_while_another_process_appends(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    appending = threading.Thread(target=append_result, args=(path, ONE))
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        appending.start()
        appending.join(timeout=0.5)
        assert path.read_bytes() == b""
    appending.join()
    assert read_results(path) == [ONE]
