"""Rows across processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from integration.processes import results_of
from torch import Tensor

from mixnn_loader._utils import processes as exchange
from mixnn_loader._utils.processes import Processes

TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
LENGTHS = [[0, 5, 7], [3, 3, 3], [1, 0, 0], [0, 0, 0], [8, 1, 2]]
SHAPES: list[tuple[int, ...]] = [(), (1,), (4,)]


def rows_of(rank: int, length: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Rows that every process can make of all others."""
    numbers = torch.randint(0, 100, (length, *shape), generator=torch.Generator().manual_seed(rank))
    return numbers.to(dtype)


def gather_everything(rank: int, size: int) -> list[Tensor]:
    exchange.CHUNK_BYTES = 3 * 3 * 8  # three numbers of each process, or a row at a time; in this process only
    processes = Processes()
    assert (processes.rank, processes.size) == (rank, size)
    gathered = []
    for lengths in LENGTHS:
        for shape in SHAPES:
            for dtype in TYPES:
                own = rows_of(rank, lengths[rank], shape, dtype)
                gathered.append(processes.gather(own))
    firsts = [processes.first(torch.tensor([rank + 5, rank], dtype=dtype)) for dtype in (*TYPES, torch.int16)]
    return [*gathered, *firsts, processes.first(torch.tensor([[rank, 1.0], [2.0, 3.0]]).T)]


def test_gathered_rows_stand_one_after_another_by_rank(tmp_path: Path) -> None:
    of_all = results_of(gather_everything, 3, tmp_path)
    expected = [
        torch.cat([rows_of(rank, length, shape, dtype) for rank, length in enumerate(lengths)])
        for lengths in LENGTHS
        for shape in SHAPES
        for dtype in TYPES
    ]
    expected += [torch.tensor([5, 0], dtype=dtype) for dtype in (*TYPES, torch.int16)]
    for gathered in of_all:
        for rows, wanted in zip(gathered, [*expected, torch.tensor([[0.0, 2.0], [1.0, 3.0]])], strict=True):
            assert rows.dtype == wanted.dtype
            torch.testing.assert_close(rows, wanted, rtol=0, atol=0)


def exchange_under_other_defaults(rank: int, size: int) -> list[Tensor]:
    processes, own = Processes(), torch.arange(size)[rank:]
    with torch.device("meta"):
        processes.check_agreement({"size": size})
        return [processes.union(own), processes.gather(own)]


def test_the_default_device_has_no_part_in_it(tmp_path: Path) -> None:
    for united, gathered in results_of(exchange_under_other_defaults, 2, tmp_path):
        assert united.tolist() == [0, 1]
        assert gathered.tolist() == [0, 1, 1]


def test_one_process_keeps_its_rows() -> None:
    processes, rows = Processes(), torch.arange(4)
    assert (processes.rank, processes.size) == (0, 1)
    assert processes.gather(rows) is processes.first(rows) is rows
    processes.check_agreement({"epoch": 3})


def unite(rank: int, size: int) -> list[list[int]]:
    del size
    different = [[1, 4, 9], [], [0, 4, 10]]
    parts = [[2, 3, 5], different[rank], [rank, 7]]
    return [Processes().union(torch.tensor(part, dtype=torch.int64)).tolist() for part in parts]


def test_the_union_of_what_the_processes_have(tmp_path: Path) -> None:
    assert results_of(unite, 3, tmp_path) == [[[2, 3, 5], [0, 1, 4, 9, 10], [0, 1, 2, 7]]] * 3


def disagree(rank: int, size: int) -> str:
    del size
    with pytest.raises(RuntimeError) as caught:
        Processes().check_agreement({"length": 7, "epoch": rank // 2})
    return str(caught.value)


def test_a_disagreement_is_told_by_all(tmp_path: Path) -> None:
    for message in results_of(disagree, 3, tmp_path):
        assert message.startswith("the epoch must be the same on all processes, got [0, 0, 1] by rank; give all")


def in_a_part(rank: int, size: int) -> list[int]:
    del size
    part: Any = dist.new_group([1, 2])
    whole = Processes()
    if rank == 0:
        with pytest.raises(ValueError, match="process_group must be one that this process is in"):
            Processes(part)
        return [whole.rank, whole.size]
    some = Processes(part)
    numbers = some.gather(torch.tensor([rank])).tolist()
    return [some.rank, some.size, *numbers, int(some.first(torch.tensor(rank)))]


def test_the_callers_group(tmp_path: Path) -> None:
    assert results_of(in_a_part, 3, tmp_path) == [[0, 3], [0, 2, 1, 2, 1], [1, 2, 1, 2, 1]]
