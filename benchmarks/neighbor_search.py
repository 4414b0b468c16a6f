"""How long do the nearest neighbors of all representations take to find, and how many of them are found?

Every backend on the same rows, one after another in one process, for one neighbor and for ten. Recall is measured on a
sample of rows, against distances in float64. References besides the library's own backends: nmslib's HNSW with (M,
efConstruction, efSearch) of (16, 200, 50) and (16, 100, 30), built with all cores (its graph, and so its answer, then
varies from run to run; the library's default builds with one thread and is repeatable), and faiss where it is
installed.

Rows are made like those of a network in training. A class is a center plus a random linear image of 16 normal
variables, all through a ReLU: few dimensions within a class, many between. For a convolutional network's 256 averaged
features of 20,000 CIFAR-10 images, eight epochs into training on 40 % symmetric noise, (mean squared distance to the
nearest neighbor / to any row, squared distance to the ninth / the first neighbor, intrinsic dimension) are (0.11, 1.37,
15); for these rows they are (0.11, 1.41, 14). `--rows round` are ten round Gaussian clusters, the hardest kind, where
the ninth neighbor is hardly farther than the first: (0.18, 1.04, 115).

The last part asks what last epoch's neighbors are worth as a shortlist for this epoch's. Rows move between its two
epochs so that as many first neighbors stay as did between two epochs of that network, a quarter.

Section IV-C of the paper compares milliseconds a sample of an exact search and of HNSW, with K = 4 neighbors: the
second command is that comparison, at CIFAR's 50,000 rows of ResNet34's width.

    python -m benchmarks.neighbor_search
    python -m benchmarks.neighbor_search --sizes 50000 --widths 512 --neighbors 4 --output section_iv_c.json
    python -m benchmarks.neighbor_search --sizes 5000 10000 --widths 64 --max-seconds 5      # a minute
"""

import argparse
import functools
import itertools
import math
import os
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.report_file import RESULTS, caption, write_json
from mixnn_loader.neighbors import CellSearch, ExactSearch, HNSWSearch, NeighborSearch

CORES = os.cpu_count() or 1
SAMPLE_ROWS = 500
CLASSES = 10
LATENT_WIDTH = 16
DRIFT = 0.33
"""Share of the spread within a class that is drawn anew from one epoch to the next."""
LAST_NEIGHBORS = 16
GUESSED_EXPONENT = 2.0
"""Of the growth of time with rows until two sizes have been measured, and at most."""
MIB = 2**20
TIED = 1e-6
"""Distances that differ by less than this share are the same: float32 has no more digits."""


class FaissHNSW:
    """faiss's HNSW index, built and searched with all cores."""

    def __init__(self, m: int, ef_construction: int, ef_search: int) -> None:
        self.m, self.ef_construction, self.ef_search = m, ef_construction, ef_search

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Tensor:
        """See `NeighborSearch`."""
        faiss: Any = import_module("faiss")
        rows = (representations - representations.mean(dim=0)).numpy()
        index = faiss.IndexHNSWFlat(rows.shape[1], self.m)
        index.hnsw.efConstruction = self.ef_construction
        index.add(rows)
        index.hnsw.efSearch = max(self.ef_search, 2 * (k + 1))
        asked = np.arange(len(rows)) if queries is None else queries.numpy()
        found = index.search(rows[asked], k + 1)[1]
        others = found != asked[:, None]
        order = np.argsort(~others, axis=1, kind="stable")[:, :k]
        return torch.from_numpy(np.take_along_axis(found, order, axis=1))


def backends() -> dict[str, NeighborSearch]:
    """Give every backend that is installed, by name."""
    nmslib = functools.partial(HNSWSearch, m=16, build_threads=CORES)
    choices: dict[str, NeighborSearch] = {
        "exact": ExactSearch(),
        "exact, float32": ExactSearch(shortlist_dtype=torch.float32),
        "cells": CellSearch(),
        "hnsw": HNSWSearch(),
        "nmslib 16, 200, 50": nmslib(ef_construction=200, ef_search=50),
        "nmslib 16, 100, 30": nmslib(ef_construction=100, ef_search=30),
    }
    if find_spec("faiss") is not None:
        choices |= {"faiss 16, 100, 30": FaissHNSW(16, 100, 30), "faiss 16, 40, 16": FaissHNSW(16, 40, 16)}
    return choices


class Rows:
    """Class centers, and for each class the directions in which its rows spread."""

    def __init__(self, num_rows: int, width: int, kind: str) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.kind, self.width = kind, width
        self.labels = torch.randint(CLASSES, (num_rows,), generator=self.generator)
        self.centers = self._normal(CLASSES, width)
        self.directions = self._normal(CLASSES, LATENT_WIDTH, width) / math.sqrt(LATENT_WIDTH)
        self.latent = self._normal(num_rows, LATENT_WIDTH)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def representations(self) -> Tensor:
        """(num_rows, width) float32."""
        if self.kind == "round":
            return 2 * self.centers[self.labels] + self._normal(len(self.labels), self.width)
        rows = self.centers[self.labels]
        for label in range(CLASSES):
            members = (self.labels == label).nonzero().flatten()
            rows[members] += 0.7 * self.latent[members] @ self.directions[label]
        return rows.relu_()

    def move(self) -> None:
        """Go on by an epoch: each row keeps most of its place within its class."""
        self.latent = math.sqrt(1 - DRIFT**2) * self.latent + DRIFT * self._normal(*self.latent.shape)


def true_distances(rows: Tensor, sample: Tensor, k: int) -> Tensor:
    """Find the sampled rows' distances to their ``k`` nearest others in float64: (S, k)."""
    mean = rows.mean(dim=0).double()
    queries = rows[sample].double() - mean
    nearest = torch.empty(len(sample), 0, dtype=torch.float64)
    for start in range(0, len(rows), 8192):
        block = rows[start : start + 8192].double() - mean
        distances = torch.cdist(queries, block)
        own = (sample >= start) & (sample < start + len(block))
        distances[own, sample[own] - start] = torch.inf
        nearest = torch.cat([nearest, distances], dim=1).topk(min(k, nearest.shape[1] + len(block)), largest=False)[0]
    return nearest


def recall(rows: Tensor, sample: Tensor, neighbors: Tensor, truth: Tensor) -> float:
    """Give the share of (S, k) neighbors that are no farther than the k-th true one."""
    differences = rows[neighbors].double() - rows[sample, None].double()
    distances = differences.square().sum(dim=2).sqrt()
    return float((distances <= truth[:, neighbors.shape[1] - 1 :][:, :1] * (1 + TIED)).double().mean())


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Watch the process, and put the MiB that it grew by at most into the list; nan where that cannot be seen.

    What an earlier search has left in the heap can be used again and is not seen: a lower bound.
    """
    statm, done = Path("/proc/self/statm"), threading.Event()

    def resident() -> float:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB

    before = resident() if statm.exists() else math.nan
    found = [before - before]

    def watch() -> None:
        while not done.wait(0.01):
            found[0] = max(found[0], resident() - before)

    watcher = threading.Thread(target=watch) if statm.exists() else None
    if watcher:
        watcher.start()
    try:
        yield found
    finally:
        done.set()
        if watcher:
            watcher.join()


def measure(backend: NeighborSearch, rows: Tensor, k: int, sample: Tensor, truth: Tensor) -> dict[str, Any]:
    """Search once."""
    synchronize = torch.cuda.synchronize if rows.is_cuda else time.perf_counter
    with peak_memory() as peak:
        synchronize()
        start = time.perf_counter()
        neighbors = backend.search(rows, k)
        synchronize()
        seconds = time.perf_counter() - start
    rows, neighbors = rows.cpu(), neighbors.cpu()
    return {
        "seconds": round(seconds, 3),
        "ms_a_sample": round(1000 * seconds / len(rows), 5),
        "recall": round(recall(rows, sample, neighbors[sample], truth), 5),
        "peak_mib": round(peak[0]) if math.isfinite(peak[0]) else None,
    }


class Growth:
    """Predicts the next time of one backend from those measured."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.seconds: list[float] = []

    def add(self, num_rows: int, seconds: float) -> None:
        """Record a time."""
        self.sizes.append(num_rows)
        self.seconds.append(seconds)

    def exponent(self) -> float | None:
        """Fit the slope of log time over log rows."""
        if len(self.sizes) < 2:
            return None
        return float(np.polyfit(np.log(self.sizes), np.log(self.seconds), deg=1)[0])

    def predict(self, num_rows: int) -> float:
        """Go on from the last time, at least linearly and at most by all pairs."""
        if not self.sizes:
            return 0.0
        ratio = num_rows / self.sizes[-1]
        if len(self.sizes) == 1:
            return self.seconds[-1] * float(ratio**GUESSED_EXPONENT)
        steepest = math.log(self.seconds[-1] / self.seconds[-2]) / math.log(self.sizes[-1] / self.sizes[-2])
        return self.seconds[-1] * float(ratio ** min(max(1.0, steepest), GUESSED_EXPONENT))


def run(args: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Measure all combinations: the measurements, what was skipped, and the growth exponents."""
    chosen = {name: backend for name, backend in backends().items() if not args.backends or name in args.backends}
    measurements: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    growth: dict[tuple[str, int, int], Growth] = {}
    for backend in chosen.values():
        backend.search(torch.randn(100, 8, generator=torch.Generator().manual_seed(0)), 1)  # imports, threads
    for width in args.widths:
        for num_rows in sorted(args.sizes):
            todo: list[tuple[str, int]] = []
            for name in chosen:
                for k in args.neighbors:
                    predicted = growth.setdefault((name, width, k), Growth()).predict(num_rows)
                    if predicted <= args.max_seconds:
                        todo.append((name, k))
                        continue
                    skipped.append({"backend": name, "num_rows": num_rows, "width": width, "k": k})
                    print(f"skipped {name}, {num_rows:,} x {width}, K = {k}: about {predicted:.0f} s", flush=True)
            if not todo:
                continue
            rows = Rows(num_rows, width, args.rows).representations()
            sample = torch.randperm(num_rows, generator=torch.Generator().manual_seed(1))[:SAMPLE_ROWS]
            truth = true_distances(rows, sample, max(args.neighbors))
            for name, k in todo:
                result = measure(chosen[name], rows.to(args.device), k, sample, truth)
                growth[name, width, k].add(num_rows, result["seconds"])
                measurements.append({"backend": name, "num_rows": num_rows, "width": width, "k": k, **result})
                print(
                    f"{name:20} {num_rows:>9,} x {width:<5} K = {k:<3} {result['seconds']:8.2f} s  "
                    f"{result['ms_a_sample']:.4f} ms a sample  recall {result['recall']:.4f}  {result['peak_mib']} MiB",
                    flush=True,
                )
    exponents = [
        {"backend": name, "width": width, "k": k, "exponent": round(slope, 2)}
        for (name, width, k), line in growth.items()
        if (slope := line.exponent()) is not None
    ]
    return measurements, skipped, exponents


def last_neighbors(num_rows: int, width: int) -> dict[str, float]:
    """Find how many first neighbors are among those of the epoch before, and among those and theirs."""
    rows = Rows(num_rows, width, "learned")
    before = rows.representations()
    rows.move()
    now = rows.representations()
    sample = torch.randperm(num_rows, generator=torch.Generator().manual_seed(1))[:SAMPLE_ROWS]
    truth = true_distances(now, sample, 1)
    graph = ExactSearch().search(before, LAST_NEIGHBORS)  # (N, L)
    mine = graph[sample]  # (S, L)
    shortlists = {
        "first": mine[:, :1],
        f"first {LAST_NEIGHBORS}": mine,
        "and theirs": torch.cat([mine, graph[mine].flatten(1)], dim=1),
    }
    shares: dict[str, float] = {}
    for name, candidates in shortlists.items():
        distances = (now[candidates] - now[sample, None]).double().square().sum(dim=2).sqrt()
        distances[candidates == sample[:, None]] = torch.inf
        shares[name] = round(float((distances.amin(dim=1) <= truth[:, 0] * (1 + TIED)).double().mean()), 4)
    return shares


def plot(measurements: Sequence[dict[str, Any]], path: Path, command: str) -> None:
    """Draw time, for one neighbor and for more, and recall over the number of rows."""
    widths = sorted({m["width"] for m in measurements})
    ks = sorted({m["k"] for m in measurements})
    names = list(dict.fromkeys(m["backend"] for m in measurements))
    sizes = sorted({m["num_rows"] for m in measurements})
    shape = (2 * len(ks), len(widths))
    size = (max(8.0, 4.0 * len(widths)), 2.8 * shape[0] + 1.2)
    figure, axes = plt.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
    panels = [(k, value) for k in ks for value in ("seconds", "recall")]
    for (row, (k, value)), (column, width) in itertools.product(enumerate(panels), enumerate(widths)):
        axis = axes[row][column]
        for color, name in enumerate(names):
            line = [m for m in measurements if (m["backend"], m["width"], m["k"]) == (name, width, k)]
            axis.plot([m["num_rows"] for m in line], [m[value] for m in line], "o-", color=f"C{color}", label=name)
        axis.set(xscale="log", yscale="log" if value == "seconds" else "linear", title=f"d = {width}, K = {k}")
        axis.minorticks_off()
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
        axis.grid(alpha=0.3)
        axis.set(xlabel="rows", ylabel=value)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    figure.supxlabel("\n".join(textwrap.wrap(command, 110)) + "\n" + caption("").strip(), fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 20_000, 50_000, 200_000])
    parser.add_argument("--large", action="store_true", help="1,000,000 rows as well")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 512, 2048])
    parser.add_argument("--neighbors", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--backends", nargs="+", default=[], choices=list(backends()), metavar="NAME")
    parser.add_argument("--rows", choices=["learned", "round"], default="learned")
    parser.add_argument("--max-seconds", type=float, default=40, help="skip what is predicted to take longer")
    parser.add_argument("--device", default="cpu", help="where the rows are; only exact and cells search elsewhere")
    parser.add_argument("--output", type=Path, help="default: a file of benchmarks/results, by the kind of rows")
    args = parser.parse_args()
    if args.output is None:
        name = "neighbor_search" if args.rows == "learned" else f"neighbor_search_{args.rows}"
        args.output = RESULTS / f"{name}.json"
    if args.large:
        args.sizes = [*args.sizes, 1_000_000]
    return args


def command_line(args: argparse.Namespace) -> str:
    """Give the command that repeats the measurements."""
    words = ["python -m benchmarks.neighbor_search", "--sizes", *args.sizes, "--widths", *args.widths]
    words += ["--neighbors", *args.neighbors, "--rows", args.rows, "--max-seconds", f"{args.max_seconds:g}"]
    words += ["--device", args.device] if args.device != "cpu" else []
    if args.backends:
        words += ["--backends", *(f'"{name}"' for name in args.backends)]
    return " ".join(map(str, words))


def main() -> None:
    """Measure, print, write."""
    args = parse_args()
    command = command_line(args)
    if find_spec("faiss") is None:
        print("faiss is not installed: left out")
    measurements, skipped, exponents = run(args)
    for line in exponents:
        print(f"{line['backend']:20} d = {line['width']:<5} K = {line['k']:<3} grows with N^{line['exponent']:.2f}")
    drift = last_neighbors(min(20_000, max(args.sizes)), 256)
    print("nearest neighbors among those of the epoch before:", drift)
    write_json(args.output, command, measurements, exponents=exponents, skipped=skipped, last_neighbors=drift)
    plot(measurements, args.output.with_suffix(".png"), command)


if __name__ == "__main__":
    main()
