"""How do time and memory at the start of an epoch shrink when several processes train together?

Every process holds the rows of all samples, answers for its share of the queries, and tells the others. So of a search
a part is shared out, and a part is done by everyone: by cells, that is the centered copy, the cells and the two samples
that tell how many cells to search. Measured is one process, alone on the machine and new for each case, that answers
for the first of W shares; a straight line through the seconds over 1/W tells the two parts apart. The rows are those of
`neighbor_search.py`.

Then the exchange, between two processes of one thread each on one machine, through gloo: the representations after a
scan, each process having seen every second batch, and the soft targets after an epoch. Between machines the network is
slower than this, and a process receives (W - 1) / W of the table.

Last, what a process needs for a million and ten million samples: memory by formula, seconds by a power of N through the
two largest sizes measured, for either part of the search.

    python -m benchmarks.processes --large                     # a million rows as well: 6 GB of memory, 10 minutes
    python -m benchmarks.processes --sizes 20000 50000         # a minute
"""

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.harness.machine import describe_machine
from benchmarks.harness.report_file import RESULTS, write_json
from benchmarks.neighbor_search import SAMPLE_ROWS, Rows, peak_memory, recall, true_distances
from mixnn_loader._utils.batch_indices import BatchIndices
from mixnn_loader._utils.processes import CHUNK_BYTES, Processes
from mixnn_loader.data.scan_batches import ScanBatches
from mixnn_loader.neighbors import CellSearch, ExactSearch, NeighborSearch, search_all
from mixnn_loader.neighbors.cell_search import SAMPLE_ROWS as ROWS_OF_A_SAMPLE
from mixnn_loader.neighbors.cells import ROWS_A_CELL, Cells, find_centers
from mixnn_loader.neighbors.precision import full_float32
from mixnn_loader.neighbors.rows import center
from mixnn_loader.run.columns import Layout
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.share_rows import average_rows, share_predictions

BACKENDS: dict[str, NeighborSearch] = {"exact": ExactSearch(), "cells": CellSearch()}
NUM_NEIGHBORS = 1
SHARES = (1, 2, 4, 8)
LARGE = 1_000_000
LARGE_SHARES = (8, 2)
EXACT_UP_TO_ROWS = 50_000
WIDTH = 512
NARROW = 64
"""Measured for 50,000 rows."""
REPEATS = 3
LONG = 20.0
"""Seconds from which on a search is made once."""

BATCH_SIZE = 128
EXCHANGED_CLASSES = (10, 1000)
NUM_EXCHANGING = 2
TIMEOUT = timedelta(seconds=120)

EXTRAPOLATED_ROWS = (1_000_000, 10_000_000)
EXTRAPOLATED_SHARES = (1, 8)
EXTRAPOLATED_CLASSES = 1_000
FLOAT32_BYTES = 4
MIB = 2**20


@dataclass(frozen=True)
class SearchCase:
    """A search by one of several processes."""

    num_rows: int
    width: int
    backend: str
    processes: int


@dataclass(frozen=True)
class ExchangeCase:
    """A table that two processes make whole: "representations" or "targets"."""

    num_rows: int
    width: int
    what: str


def search_cases(sizes: Iterable[int], *, large: bool) -> list[SearchCase]:
    """List the searches, the smallest first."""
    cases = []
    for num_rows in sorted(sizes):
        widths = (NARROW, WIDTH) if num_rows == EXACT_UP_TO_ROWS else (WIDTH,)
        backends = ("exact", "cells") if num_rows <= EXACT_UP_TO_ROWS else ("cells",)
        cases += [SearchCase(num_rows, d, backend, w) for d in widths for backend in backends for w in SHARES]
    if large:
        cases += [SearchCase(LARGE, WIDTH, "cells", w) for w in LARGE_SHARES]
    return cases


def exchange_cases(sizes: Iterable[int]) -> list[ExchangeCase]:
    """List the exchanges, the smallest first."""
    tables = [("representations", WIDTH), *(("targets", num_classes) for num_classes in EXCHANGED_CLASSES)]
    return [ExchangeCase(num_rows, width, what) for num_rows in sorted(sizes) for what, width in tables]


def in_new_processes(function: Callable[..., dict[str, Any]], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call a function in a new process for each of the arguments, all at the same time."""
    # fork: this process computes nothing, and the imports have been made.
    with ProcessPoolExecutor(len(arguments), mp_context=get_context("fork")) as pool:
        return [future.result() for future in [pool.submit(function, *each) for each in arguments]]


def seconds_of(function: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure_search(case: SearchCase) -> dict[str, Any]:
    """Search for the first process's share of the queries, as the library does."""
    backend = BACKENDS[case.backend]
    backend.search(torch.randn(100, 8, generator=torch.Generator().manual_seed(0)), 1)  # threads
    rows = Rows(case.num_rows, case.width, "learned").representations()
    queries = torch.arange(case.num_rows).tensor_split(case.processes)[0]
    start = time.perf_counter()
    with peak_memory() as peak:
        found = search_all(backend, rows, NUM_NEIGHBORS, queries)
    runs = [time.perf_counter() - start]
    while len(runs) < REPEATS and runs[0] < LONG:
        runs.append(seconds_of(lambda: search_all(backend, rows, NUM_NEIGHBORS, queries)))
    sample = torch.randperm(len(queries), generator=torch.Generator().manual_seed(1))[:SAMPLE_ROWS]
    truth = true_distances(rows, sample, NUM_NEIGHBORS)
    return {
        "seconds": round(min(runs), 3),
        "runs": [round(seconds, 3) for seconds in runs],
        "found_by": found.backend,
        "recall": round(recall(rows, sample, found.neighbors[sample], truth), 5),
        "recall_reported": found.recall and round(found.recall, 5),
        "peak_mib": round(peak[0]) if math.isfinite(peak[0]) else None,
        "threads": torch.get_num_threads(),
        "parts": parts_of(rows) if case.backend == "cells" and case.processes == max(SHARES) else None,
    }


@torch.no_grad()
def parts_of(representations: torch.Tensor) -> dict[str, float]:
    """Time what every process does before it can search in cells, one part after the other."""
    generator = torch.Generator().manual_seed(0)
    with full_float32("cpu"):
        start = time.perf_counter()
        rows = center(representations)
        centered = time.perf_counter()
        order = torch.randperm(len(rows), generator=generator)
        num_cells = round(math.sqrt(len(rows)))
        Cells.build(rows, find_centers(rows[order[: num_cells * ROWS_A_CELL]], num_cells))
        built = time.perf_counter()
        sample = order[-2 * ROWS_OF_A_SAMPLE :]
        ExactSearch().search_centered(rows, NUM_NEIGHBORS, sample)
        answered = time.perf_counter()
    parts = {"centered copy": centered - start, "cells": built - centered, "samples": answered - built}
    return {name: round(seconds, 3) for name, seconds in parts.items()}


def measure_exchange(case: ExchangeCase) -> dict[str, Any]:
    """Make a table whole in two processes: the slower one's seconds, and the larger peak."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [(case, rank, folder) for rank in range(NUM_EXCHANGING)]
        results = in_new_processes(exchange, arguments)
    runs = [max(seconds) for seconds in zip(*(result["runs"] for result in results), strict=True)]
    return {
        "seconds": round(min(runs), 3),
        "runs": [round(seconds, 3) for seconds in runs],
        "peak_mib": max(result["peak_mib"] for result in results),
        "peak_mib_by_formula": round(in_transit(case.num_rows, case.width, NUM_EXCHANGING) / MIB),
        "table_mib": round(FLOAT32_BYTES * case.num_rows * case.width / MIB),
        "processes": NUM_EXCHANGING,
        "threads": 1,
    }


def exchange(case: ExchangeCase, rank: int, folder: str) -> dict[str, Any]:
    """Be one of the processes."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=NUM_EXCHANGING, timeout=TIMEOUT
    )
    try:
        processes = Processes()
        share = after_scan(case, processes) if case.what == "representations" else after_epoch(case, processes)
        processes.gather(torch.zeros(1))  # connections
        with peak_memory() as peak:
            runs = [seconds_of(share)]
        for _ in range(REPEATS - 1):
            processes.gather(torch.zeros(1))  # start together
            runs.append(seconds_of(share))
        return {"runs": runs, "peak_mib": round(peak[0]) if math.isfinite(peak[0]) else None}
    finally:
        dist.destroy_process_group()


def after_scan(case: ExchangeCase, processes: Processes) -> Callable[[], object]:
    """Have scanned every second batch; what is left to do."""
    batches = ScanBatches(np.arange(case.num_rows), BATCH_SIZE)
    batches.share(np.arange(case.num_rows), processes.rank, processes.size)
    rows = torch.from_numpy(batches.own_indices())
    table = SampleTable(Layout(num_samples=case.num_rows, pool_size=NUM_NEIGHBORS))
    table.set_num_classes(EXCHANGED_CLASSES[0])
    table.record_labels(torch.arange(case.num_rows), torch.zeros(case.num_rows, dtype=torch.int64))
    generator = torch.Generator().manual_seed(processes.rank)
    for part in torch.split(rows, BATCH_SIZE):
        table.record_predictions(
            BatchIndices(part),
            torch.zeros(len(part)),
            torch.zeros(len(part), dtype=torch.bool),
            torch.rand(len(part), case.width, generator=generator),
        )
    return lambda: share_predictions(table, rows, processes, torch.device("cpu"))


def after_epoch(case: ExchangeCase, processes: Processes) -> Callable[[], object]:
    """Have moved the targets of a random half; what is left to do."""
    table = SampleTable(Layout(num_samples=case.num_rows, pool_size=NUM_NEIGHBORS))
    table.set_num_classes(case.width)
    table.soft_targets.uniform_(generator=torch.Generator().manual_seed(0))
    order = torch.randperm(case.num_rows, generator=torch.Generator().manual_seed(0))
    rows_of = [rows.sort().values for rows in order.tensor_split(processes.size)]
    return lambda: average_rows(table.soft_targets, rows_of, processes)


def in_transit(num_rows: int, width: int, processes: int) -> float:
    """Bytes that an exchange takes for a while: a copy of the own rows, and copies of a chunk of everyone's."""
    share = FLOAT32_BYTES * width * num_rows / processes
    chunk = min(CHUNK_BYTES / processes, share)
    # What is sent, what is received, and that once more within the backend.
    return share + (1 + 2 * processes) * chunk


def fit_line(searches: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Split one size's seconds into those of everyone, and those that are shared out."""
    line = statistics.linear_regression([1 / m["processes"] for m in searches], [m["seconds"] for m in searches])
    return line.intercept, line.slope


def split_searches(measurements: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Split the seconds of every size of every search measured in two shares or more."""
    searches = [m for m in measurements if m["kind"] == "search"]
    splits = []
    for backend, width, num_rows in sorted({(m["backend"], m["width"], m["num_rows"]) for m in searches}):
        those = [m for m in searches if (m["backend"], m["width"], m["num_rows"]) == (backend, width, num_rows)]
        if len(those) > 1:
            everyone, shared = fit_line(those)
            splits.append(
                {
                    "backend": backend,
                    "width": width,
                    "num_rows": num_rows,
                    "seconds_of_everyone": round(everyone, 3),
                    "seconds_shared_out": round(shared, 3),
                }
            )
    return splits


def extrapolate(splits: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Go on with both parts of a search by cells, each with the power of N that leads from one size to the next."""
    line = [split for split in splits if (split["backend"], split["width"]) == ("cells", WIDTH)]
    found = []
    for num_rows in EXTRAPOLATED_ROWS:
        smaller = [split for split in line if split["num_rows"] < num_rows][-2:]
        if len(smaller) < 2:
            continue
        before, last = smaller
        parts = ("seconds_of_everyone", "seconds_shared_out")
        if any(split[part] <= 0 for split in smaller for part in parts):  # lost in noise: sizes too small
            continue
        exponents, seconds = {}, {}
        for part in parts:
            growth = math.log(last["num_rows"] / before["num_rows"])
            exponents[part] = math.log(last[part] / before[part]) / growth
            seconds[part] = last[part] * (num_rows / last["num_rows"]) ** exponents[part]
        found += [
            {
                "num_rows": num_rows,
                "width": WIDTH,
                "processes": processes,
                "search_seconds": round(seconds["seconds_of_everyone"] + seconds["seconds_shared_out"] / processes, 1),
                "exponents": {part: round(exponent, 2) for part, exponent in exponents.items()},
                "from_sizes": [before["num_rows"], last["num_rows"]],
            }
            for processes in EXTRAPOLATED_SHARES
        ]
    return found


def memory() -> list[dict[str, Any]]:
    """Give the GiB of one process by formula, in float32."""
    gib = 2**30
    found = []
    for num_rows in EXTRAPOLATED_ROWS:
        for processes in EXTRAPOLATED_SHARES:
            table = FLOAT32_BYTES * num_rows
            bytes_of = {
                "targets": table * EXTRAPOLATED_CLASSES,
                # label and neighbors are int64, loss and log P float32; with several processes a flag: drawn or not
                "labels, losses, P, neighbors": num_rows * (8 + 8 * NUM_NEIGHBORS + 4 + 4 + (processes > 1)),
                "representations, while searched": table * WIDTH,
                "their centered copy, while searched": table * WIDTH,
                "exchange of representations, after the scan": (processes > 1) * in_transit(num_rows, WIDTH, processes),
                "exchange of targets, after the epoch": (processes > 1)
                * in_transit(num_rows, EXTRAPOLATED_CLASSES, processes),
            }
            rounded = {name: round(num_bytes / gib, 2) for name, num_bytes in bytes_of.items()}
            sizes = {"num_rows": num_rows, "width": WIDTH, "classes": EXTRAPOLATED_CLASSES, "processes": processes}
            found.append({**sizes, "gib": rounded})
    return found


def show(measurement: dict[str, Any]) -> str:
    """Put a measurement into a line."""
    what = measurement.get("backend") or f"exchange of {measurement['what']}"
    line = f"{what:28} {measurement['num_rows']:>9,} x {measurement['width']:<5} W = {measurement['processes']}"
    line += f" {measurement['seconds']:8.3f} s  {measurement['peak_mib']} MiB"
    if "recall" in measurement:
        line += f"  {measurement['found_by']} {measurement['recall']:.4f} {measurement['parts'] or ''}"
    return line


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--large", action="store_true", help=f"{LARGE:,} rows as well, by 8 and by 2 processes")
    parser.add_argument("--resume", action="store_true", help="keep what the output file already has")
    parser.add_argument("--max-cases", type=int, help="stop after that many, to go on with --resume")
    parser.add_argument("--output", type=Path, default=RESULTS / "processes.json")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write; what is finished is written at once."""
    args = parse_args()
    command = f"python -m benchmarks.processes --sizes {' '.join(map(str, args.sizes))}" + " --large" * args.large
    measurements: list[dict[str, Any]] = []
    if args.resume and args.output.exists():
        saved = json.loads(args.output.read_text())
        if any(saved["machine"][key] != value for key, value in describe_machine().items()):
            raise SystemExit(f"--resume: {args.output} is of another machine or day: {saved['machine']}")
        measurements = saved["measurements"]
    cases: list[SearchCase | ExchangeCase] = [
        *search_cases(args.sizes, large=False),
        *exchange_cases(args.sizes),
        *search_cases([], large=args.large),
    ]
    left = [case for case in cases if not any(asdict(case).items() <= each.items() for each in measurements)]
    for case in left[: args.max_cases]:
        if isinstance(case, SearchCase):
            kind, result = "search", in_new_processes(measure_search, [(case,)])[0]
        else:
            kind, result = "exchange", measure_exchange(case)
        measurements.append({"kind": kind, **asdict(case), **result})
        print(show(measurements[-1]), flush=True)
        splits = split_searches(measurements)
        write_json(
            args.output,
            command,
            measurements,
            seed=0,
            cores=os.cpu_count(),
            splits=splits,
            extrapolated=extrapolate(splits),
            memory_by_formula=memory(),
        )
    print(json.dumps({"splits": split_searches(measurements), "memory": memory()}, indent=1))


if __name__ == "__main__":
    main()
