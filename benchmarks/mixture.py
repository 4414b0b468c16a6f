"""P(clean) from 10,000 to 10,000,000 losses: time, memory, and agreement with scikit-learn's GaussianMixture.

Made-up losses of four kinds, 40 % of them of wrong labels:

    separated    after warm-up on ten classes: most wrong labels have a loss that right ones hardly ever reach
    overlapping  early in warm-up, or with many classes: skewed, and the best threshold is wrong for one in six
    close        two Gaussians two standard deviations apart: fits end at the library's MAX_STEPS, not at the optimum
    memorized    late in plain training: most losses near zero, those of wrong labels among them

The library's time is that of `log_clean_posterior`, all of it: normalization, fit, posterior of every loss. More than
4,096 losses are binned before the fit, which is much of what makes it fast there. The import of pomegranate, once a
process, is measured apart. scikit-learn's is that of a default `GaussianMixture(2)`, fitted and evaluated on losses
that are normalized already. Each is the median of three runs; of 10,000,000 losses scikit-learn's is a single run, of
one kind.

The agreement is with another fit of scikit-learn's, to its optimum: two starts, tol 1e-12, the library's variance
floor; on a random sample where there are more losses than the kind's `reference_size`, and then good to the sampling
error only. The library makes P(clean) monotone: losses past the vertex of the log-odds are left out, as there both
differ on purpose. The memory is what the resident set of a fresh process grows by at its peak, the losses themselves
not counted (Linux).

    python -m benchmarks.mixture
    python -m benchmarks.mixture --sizes 10000 100000 --output /tmp/mixture.json
"""

import argparse
import importlib
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from sklearn.mixture import GaussianMixture
from torch import Tensor

from benchmarks.harness.report_file import RESULTS, caption, write_json
from mixnn_loader.method.clean_probability import log_clean_posterior, normalize_losses
from mixnn_loader.method.gaussian_mixture import VARIANCE_FLOOR, Mixture
from mixnn_loader.plots import plot_loss_distribution

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
NOISE_RATE = 0.4
REPEATS = 3

Array = npt.NDArray[np.float64]
Sampler = Callable[[np.random.Generator, int], Array]


@dataclass(frozen=True)
class Kind:
    """A distribution of losses.

    Attributes:
        right: draws losses of right labels.
        wrong: draws losses of wrong labels.
        reference_size: of more losses, scikit-learn's optimum is fitted to a sample of this size.
    """

    right: Sampler
    wrong: Sampler
    reference_size: int = 1_000_000

    def draw(self, size: int) -> tuple[Tensor, Tensor]:
        """Losses (size,) float32, and which of them are of wrong labels, (size,) bool."""
        rng = np.random.default_rng(0)
        is_noisy = rng.random(size) < NOISE_RATE
        losses = np.empty(size, dtype=np.float32)
        losses[~is_noisy] = self.right(rng, size - int(is_noisy.sum())).clip(min=0)
        losses[is_noisy] = self.wrong(rng, int(is_noisy.sum())).clip(min=0)
        return torch.from_numpy(losses), torch.from_numpy(is_noisy)


KINDS = {
    "separated": Kind(lambda rng, n: rng.lognormal(-1.5, 0.8, n), lambda rng, n: rng.normal(4.0, 0.9, n)),
    "overlapping": Kind(lambda rng, n: rng.gamma(2.0, 0.5, n), lambda rng, n: rng.gamma(6.0, 0.5, n)),
    "close": Kind(lambda rng, n: rng.normal(2.0, 0.6, n), lambda rng, n: rng.normal(3.2, 0.6, n), 10_000),
    "memorized": Kind(lambda rng, n: rng.lognormal(-7.0, 1.5, n), lambda rng, n: rng.lognormal(-2.5, 2.0, n)),
}


@dataclass(frozen=True)
class Result:
    """What one set of losses came to.

    Attributes:
        seconds: of the library.
        sklearn_seconds: of scikit-learn with its default settings; None where it would take too long.
        reference_losses: how many losses scikit-learn's optimum was fitted to.
        reference_seconds: of that fit, from two starts, once.
        reference_steps: EM steps of its best start.
        largest_difference: in P(clean), over the losses that are compared.
        mean_difference: in P(clean), over the losses that are compared.
        left_out: share of the losses past the vertex, which are not compared.
        means_difference: larger of the two, in units of the normalized losses.
        priors_difference: of either component.
    """

    kind: str
    size: int
    seconds: float
    sklearn_seconds: float | None
    reference_losses: int
    reference_seconds: float
    reference_steps: int
    largest_difference: float
    mean_difference: float
    left_out: float
    means_difference: float
    priors_difference: float


@dataclass(frozen=True)
class Memory:
    """What a fresh process measured.

    Attributes:
        import_seconds: of pomegranate, PyTorch being there.
        peak_bytes: growth of the resident set during `log_clean_posterior`; None where it cannot be told.
    """

    size: int
    import_seconds: float
    peak_bytes: int | None


def measure(name: str, size: int) -> Result:
    """Time both libraries on one set of losses and compare their answers."""
    kind = KINDS[name]
    losses, _ = kind.draw(size)
    seconds = median_seconds(lambda: log_clean_posterior(losses), REPEATS)
    log_posterior, mixture = log_clean_posterior(losses)
    if mixture is None:
        raise RuntimeError(f"no mixture was fitted to {size} {name} losses")

    normalized = normalize_losses(losses).numpy()
    values = normalized[:, None]
    sklearn_seconds = None
    if size < 10_000_000 or name == "separated":
        sklearn_seconds = median_seconds(
            lambda: GaussianMixture(2, random_state=0).fit(values).predict_proba(values),
            REPEATS if size < 10_000_000 else 1,
        )
    sample = values
    if size > kind.reference_size:
        sample = np.random.default_rng(1).choice(values, kind.reference_size, replace=False)
    reference = GaussianMixture(2, tol=1e-12, max_iter=10_000, n_init=2, reg_covar=VARIANCE_FLOOR, random_state=0)
    start = time.perf_counter()
    reference.fit(sample)
    reference_seconds = time.perf_counter() - start

    order = reference.means_.ravel().argsort()
    compared = before_vertex(mixture, normalized)
    expected = reference.predict_proba(values)[:, order[0]]
    difference = np.abs(log_posterior.double().exp().numpy() - expected)[compared]
    return Result(
        name,
        size,
        seconds,
        sklearn_seconds,
        len(sample),
        reference_seconds,
        reference.n_iter_,
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        left_out=1 - float(compared.mean()),
        means_difference=float(np.abs(reference.means_.ravel()[order] - mixture.means).max()),
        priors_difference=float(np.abs(reference.weights_[order] - mixture.priors).max()),
    )


def before_vertex(mixture: Mixture, normalized: Array) -> npt.NDArray[np.bool_]:
    """Where the log-odds fall with the loss, so that P(clean) is Eq. 9 itself: their derivative is not positive."""
    (clean, wrong), (clean_variance, wrong_variance) = mixture.means, mixture.variances
    slope = (clean - normalized) / clean_variance - (wrong - normalized) / wrong_variance
    falling: npt.NDArray[np.bool_] = slope <= 0
    return falling


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """Run and time."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure_memory(size: int) -> Memory:
    """To be run in a fresh process: memory that an earlier fit has left behind would be used again, unseen."""
    start = time.perf_counter()
    importlib.import_module("pomegranate.distributions")
    import_seconds = time.perf_counter() - start
    log_clean_posterior(KINDS["overlapping"].draw(1000)[0])  # what the first fit takes once and for all
    losses, _ = KINDS["overlapping"].draw(size)
    before = reset_peak()
    log_clean_posterior(losses)
    return Memory(size, import_seconds, None if before is None else resident("VmHWM") - before)


def reset_peak() -> int | None:
    """Let the process's peak of resident memory start again from what it holds now, in bytes; None if it cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return resident("VmRSS")


def resident(field: str) -> int:
    """A line of Linux's account of the process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def draw_figure(results: list[Result], memories: list[Memory], command: str) -> Figure:
    """The kinds of losses above; below, time, agreement and memory by the number of losses."""
    figure = Figure(figsize=(15, 7.5), layout="constrained")
    grid = figure.add_gridspec(2, 12)
    for column, (name, kind) in enumerate(KINDS.items()):
        ax = figure.add_subplot(grid[0, 3 * column : 3 * column + 3])
        losses, is_noisy = kind.draw(10_000)
        plot_loss_distribution(losses, is_noisy=is_noisy, ax=ax).set_title(name)
        legend = ax.get_legend()
        if column > 0 and legend is not None:
            legend.remove()
    time_ax, agreement_ax, memory_ax = (figure.add_subplot(grid[1, 4 * i : 4 * i + 4]) for i in range(3))
    for color, name in zip(("C0", "C1", "C2", "C3"), KINDS, strict=True):
        rows = [row for row in results if row.kind == name]
        sizes = [row.size for row in rows]
        time_ax.plot(sizes, [row.seconds for row in rows], "o-", color=color, label=name)
        sklearn = [(row.size, row.sklearn_seconds) for row in rows if row.sklearn_seconds is not None]
        time_ax.plot([size for size, _ in sklearn], [seconds for _, seconds in sklearn], "s:", color=color, alpha=0.6)
        agreement_ax.plot(sizes, [row.largest_difference for row in rows], "-", color=color, label=name)
        for row in rows:
            fill = color if row.reference_losses == row.size else "white"
            agreement_ax.plot(row.size, row.largest_difference, "o", color=color, markerfacecolor=fill)
    time_ax.set(title="seconds (dotted: scikit-learn, default settings)")
    agreement_ax.set(title="largest difference in P(clean) from scikit-learn's optimum\n(hollow: of a sample)")
    known = [(row.size, row.peak_bytes / 2**20) for row in memories if row.peak_bytes is not None]
    memory_ax.plot([size for size, _ in known], [mebibytes for _, mebibytes in known], "o-", color="black")
    memory_ax.set(title="peak memory of the library's fit, MiB")
    for ax in (time_ax, agreement_ax, memory_ax):
        ax.set(xscale="log", yscale="log", xlabel="losses")
        ax.grid(alpha=0.3)
    time_ax.legend()
    figure.supxlabel(caption(command), fontsize="small")
    return figure


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of losses")
    parser.add_argument("--output", type=Path, default=RESULTS / "mixture.json", help="the picture goes beside it")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = parse_args()
    sizes = sorted(args.sizes)
    command = "python -m benchmarks.mixture"
    if sizes != list(SIZES):
        command += f" --sizes {' '.join(map(str, sizes))}"

    memories: list[Memory] = []
    for size in sizes:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            memories.append(pool.submit(measure_memory, size).result())
        print(memories[-1])
    log_clean_posterior(KINDS["separated"].draw(1000)[0])  # imports pomegranate
    results: list[Result] = []
    for size in sizes:
        for name in KINDS:
            results.append(measure(name, size))
            print(results[-1])

    import_seconds = statistics.median(memory.import_seconds for memory in memories)
    memory = [{"size": row.size, "peak_bytes": row.peak_bytes} for row in memories]
    about: dict[str, Any] = {"noise_rate": NOISE_RATE, "import_seconds": import_seconds, "memory": memory}
    write_json(args.output, command, [asdict(result) for result in results], **about)
    draw_figure(results, memories, command).savefig(args.output.with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
