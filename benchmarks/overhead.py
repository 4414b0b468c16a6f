"""What does MixNN cost? Epochs of a plain loop, and of the same loop with the two lines changed, taking turns.

Every method trains a copy of one network on the same images, in the same order, with the same batch size, workers and
precision. In each round every method runs one epoch, and one that scans in some epochs alone as many as make one scan,
of which the mean is taken; a ratio is that of two methods in one round, so that a machine that slows down slows both.
Measured are the epochs after the first one past warm-up, in which targets are already corrected: the dearest kind.
Where the time goes comes from one more round under `torch.profiler`; the peak memory from an epoch in a process of its
own. On a CPU the library makes its own forward passes in channels_last, and the training steps are made in whatever
format the loop has: a loop in channels_last (`--channels-last`) has cheaper steps.

The images are random class patterns under noise, and 40 % of the labels are wrong: as easy to generate as to learn, so
that losses and representations are those of a network that has learned something.

    python -m benchmarks.overhead                              # three networks, on the GPU if there is one
    python -m benchmarks.overhead --cases mnist --rounds 3     # one network, quickly
"""

import argparse
import contextlib
import functools
import json
import resource
import shlex
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet34, resnet50
from tqdm.auto import tqdm

from benchmarks.harness.machine import describe_machine
from benchmarks.harness.report_file import RESULTS, caption, write_json
from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes
from mixnn_loader.noise import symmetric

NUM_CLASSES = 10
NOISE_RATE = 0.4
BATCH_SIZE = 128
UNMEASURED_EPOCHS = 2
"""Warm-up, and the epoch after it, which pays for what is only paid once."""

METHODS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "dataset": {"neighbors": "dataset"},
    "dataset, running": {"neighbors": "dataset", "scan": "running"},
    "batch": {"neighbors": "batch"},
    "batch, running": {"neighbors": "batch", "scan": "running"},
    "robust": recipes.robust(epochs=100),
    "fast": recipes.fast(epochs=100),
}

PARTS = ("step", "p_i", "mixing", "loading", "scan", "vote", "mixture", "search", "rest")


@dataclass(frozen=True)
class Case:
    """A network and the size of what it is trained on."""

    network: str
    image_shape: tuple[int, int, int]
    num_samples: int
    num_samples_on_cpu: int


CASES = {
    "mnist": Case("convnet", (1, 28, 28), 10_000, 10_000),
    "cifar": Case("convnet", (3, 32, 32), 50_000, 50_000),
    "resnet34": Case("resnet34", (3, 32, 32), 50_000, 512),
    "photographs": Case("resnet50", (3, 224, 224), 2_560, 128),
}
BY_DEFAULT = ["mnist", "cifar", "resnet34"]
"""`photographs` are for a GPU."""


@dataclass(frozen=True)
class Run:
    """Everything that a training run is made of."""

    case: str
    method: str
    device: str
    num_samples: int
    num_workers: int
    bfloat16: bool
    channels_last: bool
    seed: int


class Training:
    """One method's network, data and optimizer, an epoch at a time."""

    def __init__(self, run: Run) -> None:
        case = CASES[run.case]
        self._run = run
        self._device = torch.device(run.device)
        torch.manual_seed(run.seed)
        self.model = build_network(case).to(self._device)
        if run.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        plain = DataLoader(
            random_patterns(run.num_samples, case.image_shape, run.seed),
            batch_size=BATCH_SIZE,
            shuffle=True,
            generator=torch.Generator().manual_seed(run.seed),
            num_workers=run.num_workers,
            persistent_workers=run.num_workers > 0,
            pin_memory=self._device.type == "cuda",
        )
        self.loader: Any = plain
        settings = METHODS[run.method]
        if settings is not None:
            self.loader = MixNNDataLoader(
                plain,
                self.model,
                autocast_dtype=torch.bfloat16 if run.bfloat16 else None,
                **{**settings, "warmup_epochs": 1, "correction_epoch": 1},
            )
        self.num_epochs: int = (settings or {}).get("scan_every", 1)
        self._criterion: nn.Module = nn.CrossEntropyLoss() if settings is None else MixNNLoss()
        self._optimizer = torch.optim.SGD(self.model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)

    def round(self) -> float:
        """Train for as many epochs as make one scan; return the mean of the seconds that one took."""
        return statistics.fmean(self.epoch() for _ in range(self.num_epochs))

    def epoch(self) -> float:
        """Train for one epoch and return the seconds that it took."""
        synchronize(self._device)
        start = time.perf_counter()
        self.model.train()
        for inputs, targets in self.loader:
            with record_function("step"):
                self._step(inputs.to(self._device, non_blocking=True), targets.to(self._device, non_blocking=True))
        synchronize(self._device)
        return time.perf_counter() - start

    def _step(self, inputs: Tensor, targets: Any) -> None:
        if self._run.channels_last:
            inputs = inputs.to(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16) if self._run.bfloat16 else contextlib.nullcontext():
            logits = self.model(inputs)
        self._optimizer.zero_grad()
        self._criterion(logits, targets).backward()
        self._optimizer.step()


def build_network(case: Case) -> nn.Module:
    """Build a ResNet34 for small images, a ResNet50, or four convolutions as in many first models."""
    network: nn.Module
    if case.network == "resnet50":
        network = resnet50(num_classes=NUM_CLASSES)
        return network
    if case.network == "resnet34":
        network = resnet34(num_classes=NUM_CLASSES)
        network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        network.maxpool = nn.Identity()
        return network
    widths = (case.image_shape[0], 32, 64, 128, 256)
    layers: list[nn.Module] = []
    for i in range(4):
        layers += [nn.Conv2d(widths[i], widths[i + 1], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[i + 1]), nn.ReLU()]
        if i < 3:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], NUM_CLASSES))


@functools.cache
def random_patterns(num_samples: int, image_shape: tuple[int, int, int], seed: int) -> TensorDataset:
    """Make images, each a smooth pattern of its class under noise, and labels of which 40 % are wrong."""
    generator = torch.Generator().manual_seed(seed)
    channels, height, width = image_shape
    coarse = torch.randn(NUM_CLASSES, channels, 4, 4, generator=generator)
    patterns = functional.interpolate(coarse, size=(height, width), mode="bilinear")
    labels = torch.randint(NUM_CLASSES, (num_samples,), generator=generator)
    images = torch.randn(num_samples, *image_shape, generator=generator)
    # In chunks, so that making the data is not what takes most memory.
    for chunk, chunk_labels in zip(torch.split(images, 1000), torch.split(labels, 1000), strict=True):
        chunk.add_(patterns[chunk_labels])
    return TensorDataset(images, symmetric(labels, NOISE_RATE, NUM_CLASSES, seed=seed).labels)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def take_turns(
    runs: Sequence[Run], rounds: int, *, with_parts: bool
) -> tuple[dict[str, list[float]], dict[str, dict[str, float]]]:
    """Train all methods side by side: the seconds of each round's epoch, and of each part of one more epoch."""
    trainings = {run.method: Training(run) for run in runs}
    seconds: dict[str, list[float]] = {method: [] for method in trainings}
    bar = tqdm(total=len(runs) * (UNMEASURED_EPOCHS + rounds + with_parts), desc=runs[0].case, unit="round")
    methods = list(trainings)
    for number in range(UNMEASURED_EPOCHS + rounds):
        for i in range(len(methods)):
            method = methods[(number + i) % len(methods)]  # another one goes first in each round
            training, measured = trainings[method], number >= UNMEASURED_EPOCHS
            elapsed = training.round() if measured else training.epoch()
            bar.update()
            if measured:
                seconds[method].append(elapsed)
    parts: dict[str, dict[str, float]] = {}
    for method, training in trainings.items() if with_parts else ():
        parts[method] = parts_of(training)
        bar.update()
    bar.close()
    return seconds, parts


def parts_of(training: Training) -> dict[str, float]:
    """Profile a round: the seconds of an epoch that are spent in each of `PARTS`.

    On a GPU, whose work is queued, a part's seconds are those in which it was given its work.
    """
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        elapsed = training.round()
    found = Counter[str]()
    for event in profiler.events():
        name = event.name.removeprefix("mixnn_loader.")
        if name.startswith("enumerate(DataLoader)"):
            name = "scan, loading" if _is_within(event, "mixnn_loader.scan") else "loading"
        found[name] += event.time_range.elapsed_us() / 1e6 / training.num_epochs
    parts: dict[str, float] = {part: found[part] for part in PARTS}
    parts["p_i"] = found["predict"]
    parts["mixing"] = found["mix"] - found["predict"]
    parts["rest"] = elapsed - sum(parts.values())
    return parts


def _is_within(event: Any, name: str) -> bool:
    while event is not None and event.name != name:
        event = event.cpu_parent
    return event is not None


def peak_memory(run: Run) -> dict[str, float]:
    """Run one epoch past warm-up in a process of its own: its largest resident set and device memory, in MiB."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_memory_here, run).result()


def _peak_memory_here(run: Run) -> dict[str, float]:
    training = Training(run)
    before = _peak_resident()
    if isinstance(training.loader, MixNNDataLoader):
        training.loader.set_epoch(1)
    training.epoch()
    peaks = {"resident": _peak_resident(), "resident_before": before}
    if run.device != "cpu":
        peaks["device"] = torch.cuda.max_memory_allocated() / 2**20
    return peaks


def _peak_resident() -> float:
    """Return this process's largest resident set so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # where it can be had without what the parent process once held
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(runs: Sequence[Run], rounds: int, *, with_parts: bool, with_memory: bool) -> list[dict[str, Any]]:
    """Measure one case: a dict of primitives for each method."""
    seconds, parts = take_turns(runs, rounds, with_parts=with_parts)
    measurements = []
    for run in runs:
        ratios = [own / plain for own, plain in zip(seconds[run.method], seconds["plain"], strict=True)]
        measurements.append(
            {
                **asdict(run),
                "seconds": seconds[run.method],
                "ratios": ratios,
                "ratio": statistics.median(ratios),
                "parts": parts.get(run.method),
                "peak_memory_mib": peak_memory(run) if with_memory else None,
            }
        )
    return measurements


def table(measurements: Sequence[dict[str, Any]]) -> str:
    """Show what was measured as Markdown."""
    header = ("case", "N", "method", "seconds", "times plain", *(f"{part} %" for part in PARTS), "peak MiB")
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for entry in measurements:
        spread = f"{entry['ratio']:.2f} ({min(entry['ratios']):.2f} to {max(entry['ratios']):.2f})"
        parts = entry["parts"]
        shares = ["-" if parts is None else f"{100 * parts[part] / sum(parts.values()):.1f}" for part in PARTS]
        peaks = entry["peak_memory_mib"]
        memory = "-" if peaks is None else f"{peaks.get('device', peaks['resident']):.0f}"
        row = [
            entry["case"],
            f"{entry['num_samples']:,}",
            entry["method"],
            f"{statistics.median(entry['seconds']):.2f}",
        ]
        lines.append(f"| {' | '.join([*row, spread, *shares, memory])} |")
    return "\n".join(lines)


def plot(measurements: Sequence[dict[str, Any]], path: Path, command: str) -> None:
    """Draw every epoch as a bar of its parts, in units of the plain epoch."""
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(entry["case"] for entry in measurements))
    figure = Figure(figsize=(4.2 * len(cases) + 1.5, 4.4), layout="constrained")
    panels = figure.subplots(1, len(cases), sharey=True, squeeze=False)[0]
    for case, panel in zip(cases, panels, strict=True):
        entries = [entry for entry in measurements if entry["case"] == case]
        bottoms = [0.0] * len(entries)
        for i, part in enumerate(PARTS):
            heights = [entry["ratio"] * entry["parts"][part] / sum(entry["parts"].values()) for entry in entries]
            panel.bar(range(len(entries)), heights, bottom=bottoms, label=part, color=f"C{i}", width=0.7)
            bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
        for i, entry in enumerate(entries):
            panel.text(i, bottoms[i] + 0.02, f"{entry['ratio']:.2f}", ha="center")
        panel.set_xticks(range(len(entries)), [entry["method"].replace(", ", ",\n") for entry in entries])
        panel.set_title(f"{case}: {CASES[case].network}, N = {entries[0]['num_samples']:,}")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("seconds an epoch / plain epoch")
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, reverse=True)
    figure.supxlabel(caption(command), fontsize=8)
    figure.savefig(path, dpi=120)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cases",
        nargs="+",
        default=BY_DEFAULT,
        choices=list(CASES),
        metavar="CASE",
        help=f"of {', '.join(CASES)}, the size of photographs (default: {' '.join(BY_DEFAULT)})",
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--rounds", type=int, default=2, help="epochs measured of each method")
    parser.add_argument("--num-samples", type=int, help="images of each case (default: by case and device)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--bfloat16", action="store_true", help="train under autocast")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument(
        "--no-parts",
        action="store_true",
        help="leave out where the time goes, which on a GPU takes longest to find out",
    )
    parser.add_argument("--no-memory", action="store_true", help="leave out the peak memory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="keep the cases that the output file already has")
    parser.add_argument("--output", type=Path, default=RESULTS / "overhead.json")
    args = parser.parse_args()
    args.methods = ["plain", *(method for method in args.methods if method != "plain")]
    return args


def main() -> None:
    """Measure all cases, print the table, and write it down with a picture."""
    args = parse_args()
    command = f"python -m benchmarks.overhead --cases {' '.join(args.cases)} --rounds {args.rounds}"
    if set(args.methods) != set(METHODS):
        command += f" --methods {shlex.join(args.methods)}"
    if args.num_samples is not None:
        command += f" --num-samples {args.num_samples}"
    command += f" --workers {args.workers} --device {args.device} --seed {args.seed}"
    command += " --bfloat16" * args.bfloat16 + " --channels-last" * args.channels_last
    command += " --no-parts" * args.no_parts
    measurements: list[dict[str, Any]] = []
    if args.resume and args.output.exists():
        saved = json.loads(args.output.read_text())
        if any(saved["machine"][key] != value for key, value in describe_machine().items()):
            raise SystemExit(f"--resume: {args.output} is of another machine or day: {saved['machine']}")
        measurements = saved["measurements"]
    done = {entry["case"] for entry in measurements}
    for case in [case for case in args.cases if case not in done]:
        by_default = CASES[case].num_samples_on_cpu if args.device == "cpu" else CASES[case].num_samples
        size = by_default if args.num_samples is None else args.num_samples
        runs = [
            Run(case, method, args.device, size, args.workers, args.bfloat16, args.channels_last, args.seed)
            for method in args.methods
        ]
        measurements += measure(runs, args.rounds, with_parts=not args.no_parts, with_memory=not args.no_memory)
        random_patterns.cache_clear()
        write_json(args.output, command, measurements)
        print(table(measurements), flush=True)
    if not args.no_parts:
        plot(measurements, args.output.with_suffix(".png"), command)


if __name__ == "__main__":
    main()
