"""Which partner should a sample be mixed with? Every source of neighbors on MNIST, one network, one protocol.

10,000 training images, a small residual convolutional network with BatchNorm, no augmentation, exclusive symmetric
label noise (and none, for a method that costs accuracy where nothing is wrong must say so), 40 epochs, warm-up 5,
label correction from epoch 12, K = 1, SGD lr 0.02 with momentum 0.9, cosine, weight decay 5e-4, batch 128. Within a
seed all methods start from the same weights and see the same noise and the same order of samples. Each run has one
core to itself; its seconds count training and everything the loader does, not the evaluation.

    python -m benchmarks.partners --data-dir DIR      # DIR holds MNIST/raw, as torchvision lays it out
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import MNIST
from tqdm.auto import tqdm

from benchmarks.harness.machine import describe_machine
from mixnn_loader import MixNNDataLoader, MixNNLoss
from mixnn_loader.noise import symmetric

NUM_CLASSES = 10
NUM_TRAIN = 10_000
BATCH_SIZE = 128
MIXNN: dict[str, Any] = {"warmup_epochs": 5, "correction_epoch": 12, "num_neighbors": 1, "num_classes": NUM_CLASSES}

METHODS: dict[str, dict[str, Any] | None] = {
    "cross-entropy": None,
    "dataset": {"neighbors": "dataset", "search": "exact"},
    "dataset, pool of 10": {"neighbors": "dataset", "search": "exact", "neighbor_pool": 10},
    "dataset, pool of 100": {"neighbors": "dataset", "search": "exact", "neighbor_pool": 100},
    "dataset, running": {"neighbors": "dataset", "search": "exact", "scan": "running"},
    "batch": {"neighbors": "batch"},
    "batch, running": {"neighbors": "batch", "scan": "running"},
    "random": {"neighbors": "random"},
    "random-batch": {"neighbors": "random-batch"},
}


@dataclass(frozen=True)
class Job:
    """One training run."""

    method: str
    noise_rate: float
    seed: int
    epochs: int
    data_dir: str


@dataclass(frozen=True)
class Result:
    """What one run came to; accuracies in percent.

    Attributes:
        last: test accuracy after the last epoch.
        best: test accuracy after the best epoch, which nobody can choose without clean labels.
        correction: training labels that are right after correction (argmax of the soft targets).
        memorized: mislabeled training samples for which the model predicts the wrong label given.
        recovered: mislabeled training samples for which the model predicts the true label.
        seconds: training time.
    """

    method: str
    noise_rate: float
    actual_noise_rate: float
    seed: int
    last: float
    best: float
    correction: float
    memorized: float | None
    recovered: float | None
    seconds: float
    curve: list[float]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        return torch.relu(self.body(inputs) + self.shortcut(inputs))


def small_resnet(width: int = 8) -> nn.Sequential:
    """Build the network: a strided stem, three residual blocks, one linear layer on 4 * width features."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, 2, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        ResidualBlock(width, width, 1),
        ResidualBlock(width, 2 * width, 2),
        ResidualBlock(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, NUM_CLASSES),
    )


def train(job: Job) -> Result:
    """Train once and measure."""
    torch.set_num_threads(1)
    images, true_labels = load_images(job.data_dir, train=True)
    images, true_labels = images[:NUM_TRAIN], true_labels[:NUM_TRAIN]
    test_images, test_labels = load_images(job.data_dir, train=False)
    noisy = symmetric(true_labels, job.noise_rate, NUM_CLASSES, seed=job.seed)

    torch.manual_seed(job.seed)
    model = small_resnet()
    plain_loader = DataLoader(
        TensorDataset(images, noisy.labels),
        batch_size=BATCH_SIZE,
        shuffle=True,
        generator=torch.Generator().manual_seed(job.seed),
    )
    settings = METHODS[job.method]
    mixnn = None if settings is None else MixNNDataLoader(plain_loader, model, seed=job.seed, **settings, **MIXNN)
    loader = plain_loader if mixnn is None else mixnn
    criterion = MixNNLoss()  # equal to cross-entropy for plain labels
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs)

    curve, seconds = [], 0.0
    for _ in range(job.epochs):
        start = time.perf_counter()
        model.train()
        for inputs, targets in loader:
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            optimizer.step()
        scheduler.step()
        seconds += time.perf_counter() - start
        curve.append(percent(predict(model, test_images) == test_labels))

    wrong = noisy.is_noisy
    predicted = predict(model, images)
    corrected = noisy.labels if mixnn is None else mixnn.soft_targets.argmax(dim=1)
    return Result(
        job.method,
        job.noise_rate,
        noisy.actual_rate,
        job.seed,
        last=curve[-1],
        best=max(curve),
        correction=percent(corrected == true_labels),
        memorized=percent(predicted[wrong] == noisy.labels[wrong]) if wrong.any() else None,
        recovered=percent(predicted[wrong] == true_labels[wrong]) if wrong.any() else None,
        seconds=seconds,
        curve=curve,
    )


def load_images(data_dir: str, *, train: bool) -> tuple[Tensor, Tensor]:
    """Read MNIST as standardized images (n, 1, 28, 28) and labels (n,)."""
    dataset = MNIST(data_dir, train=train, download=False)
    return (dataset.data.unsqueeze(1).float() / 255 - 0.1307) / 0.3081, dataset.targets


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Predict the class of each image, (n,)."""
    model.eval()
    return torch.cat([model(chunk).argmax(dim=1) for chunk in torch.split(images, 500)])


def percent(hits: Tensor) -> float:
    """Return the share of True, in percent."""
    return 100 * hits.float().mean().item()


def table(results: list[Result], noise_rate: float) -> str:
    """Summarize the runs at one noise rate as a Markdown table: mean ± standard deviation over the seeds."""
    header = ("partner", "last epoch", "best epoch", "labels right", "wrong memorized", "wrong recovered", "seconds")
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for method in METHODS:
        runs = [run for run in results if run.method == method and run.noise_rate == noise_rate]
        if runs:
            columns = ("last", "best", "correction", "memorized", "recovered", "seconds")
            lines.append(f"| {method} | " + " | ".join(spread(getattr(run, c) for run in runs) for c in columns) + " |")
    return "\n".join(lines)


def spread(values: Iterable[float | None]) -> str:
    """Show a mean and, with several values, a standard deviation."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{statistics.mean(known):.1f}"
    return f"{mean} ± {statistics.stdev(known):.1f}" if len(known) > 1 else mean


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="folder that holds MNIST/raw (torchvision's layout)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--noise-rates", type=float, nargs="+", default=[0.6, 0.0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2, help="runs at a time, one core each")
    parser.add_argument("--resume", action="store_true", help="keep the runs that the output file already has")
    parser.add_argument("--output", type=Path, default=Path("partners.json"))
    args = parser.parse_args()
    if args.output.exists() and not args.resume:
        parser.error(f"--output {args.output} exists; pass --resume to complete it, or another file")
    return args


def main() -> None:
    """Run all jobs; what is finished is written at once."""
    args = parse_args()
    jobs = [
        Job(method, noise_rate, seed, args.epochs, args.data_dir)
        for seed in args.seeds
        for noise_rate in args.noise_rates
        for method in args.methods
    ]
    results: list[Result] = []
    machine = describe_machine()
    if args.resume and args.output.exists():
        saved = json.loads(args.output.read_text())
        if saved["epochs"] != args.epochs:
            raise SystemExit(f"--resume: {args.output} is of runs over {saved['epochs']} epochs, not {args.epochs}")
        if any(saved["machine"][key] != value for key, value in machine.items() if key != "date"):
            raise SystemExit(f"--resume: {args.output} is of another machine: {saved['machine']}")
        results, machine = [Result(**run) for run in saved["runs"]], saved["machine"]
    done = {(run.method, run.noise_rate, run.seed) for run in results}
    jobs = [job for job in jobs if (job.method, job.noise_rate, job.seed) not in done]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(args.processes) as pool:
        for finished in tqdm(as_completed([pool.submit(train, job) for job in jobs]), total=len(jobs), unit="run"):
            results.append(finished.result())
            write(results, machine, args)
    write(results, machine, args)
    print(args.output.with_suffix(".md").read_text())


def write(results: list[Result], machine: dict[str, str], args: argparse.Namespace) -> None:
    """Write the runs so far as JSON, and a Markdown table beside it."""
    seeds = sorted({run.seed for run in results})
    noise_rates = sorted({run.noise_rate for run in results}, reverse=True)
    command = f"python -m benchmarks.partners --data-dir DIR --seeds {' '.join(map(str, seeds))} --epochs {args.epochs}"
    report = {
        "command": command,
        "machine": machine,
        "epochs": args.epochs,
        "processes": args.processes,
        "runs": [asdict(run) for run in sorted(results, key=lambda run: (run.noise_rate, run.seed, run.method))],
    }
    args.output.write_text(json.dumps(report, indent=1) + "\n")
    text = (
        f"# Which partner? MNIST, 10,000 images, {args.epochs} epochs\n\n`{command}`\n\n"
        f"Seeds {', '.join(map(str, seeds))}; {', '.join(f'{key} {value}' for key, value in machine.items())}. "
        "Mean ± standard deviation over the seeds; accuracies in percent. *Labels right*: training labels that are "
        "right after correction. *Wrong memorized*, *wrong recovered*: mislabeled training samples for which the model "
        "predicts the wrong label given, or the true one.\n"
    )
    for noise_rate in noise_rates:
        text += f"\n## {noise_rate:.0%} symmetric noise\n\n{table(results, noise_rate)}\n"
    args.output.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
