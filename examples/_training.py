"""What the two large examples share: common flags, a training pass, evaluation, and the files of a run."""

import argparse
import csv
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mixnn_loader import MixNNDataLoader, recipes

Row = dict[str, Any]
"""One epoch of the log."""

_CHANGEABLE_FLAGS = {
    "compile",
    "data_dir",
    "device",
    "download",
    "epochs",
    "ilsvrc_dir",
    "ilsvrc_synsets",
    "image_folder",
    "output_dir",
    "resume",
    "workers",
}
"""Flags that a resumed run may change; with any other it would be a different run."""


_OF_MIXNN = (
    "num_neighbors",
    "alpha",
    "warmup_epochs",
    "correction_epoch",
    "neighbors",
    "neighbor_pool",
    "search",
    "weighting",
)
"""Flags that say something of ``--method mixnn`` alone."""


class Stateful(Protocol):
    """What a checkpoint is made of."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> object: ...


class RandomImages(Dataset[tuple[Any, int]]):
    """Random pixels and labels, for ``--smoke``: something to run on, nothing to learn."""

    def __init__(self, num_images: int, size: int, num_classes: int, transform: Any, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.images = rng.integers(256, size=(num_images, size, size, 3), dtype=np.uint8)
        self.targets: list[int] = rng.integers(num_classes, size=num_images).tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), self.targets[index]


def add_mixnn_flags(parser: argparse.ArgumentParser, *, warmup_epochs: int | None, warmup_help: str) -> None:
    """Add the flags of the method and of its ablations."""
    parser.add_argument(
        "--method",
        choices=("mixnn", "robust", "ce"),
        default="mixnn",
        help="mixnn: the paper; robust: the recipe of that name; ce: cross-entropy (default: %(default)s)",
    )
    flag = parser.add_argument_group("--method mixnn").add_argument
    flag("--num-neighbors", type=int, default=1, metavar="K", help="neighbors a sample (paper: 1)")
    flag("--alpha", type=float, default=0.9, help="momentum of the soft targets, Eq. 12 (paper: 0.9)")
    flag("--warmup-epochs", type=int, default=warmup_epochs, metavar="W", help=warmup_help)
    flag(
        "--correction-epoch",
        type=_epoch_or_never,
        default=60,
        metavar="E_s",
        help="first epoch that moves the soft targets; -1 or none: never (paper: 60, on CIFAR)",
    )
    flag(
        "--neighbors",
        choices=("dataset", "batch", "random", "random-batch"),
        default="dataset",
        help="where neighbors come from (paper: dataset; its released code: batch)",
    )
    flag("--neighbor-pool", type=int, metavar="M", help="draw the K from the M nearest (paper: the K nearest)")
    flag("--weighting", choices=("mixture", "uniform", "beta"), default="mixture", help="(paper: mixture)")
    flag("--search", choices=("auto", "exact", "cells", "hnsw"), default="auto", help="for neighbors (paper: hnsw)")


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where and how to run."""
    flag = parser.add_argument_group("run").add_argument
    flag("--output-dir", type=Path, help="for checkpoint, log and result (default: a folder of its own in runs/)")
    flag("--resume", action="store_true", help="go on from the checkpoint in --output-dir")
    flag("--smoke", action="store_true", help="a minute's run on a few random images; its accuracy means nothing")
    flag("--seed", type=int, default=0, help="of initial weights, order and augmentation (default: %(default)s)")
    flag("--device", type=_device, default="cuda" if torch.cuda.is_available() else "cpu")
    flag("--workers", type=int, default=0, help="worker processes of each data loader (default: %(default)s)")
    flag("--bf16", action="store_true", help="run the model under bfloat16 autocast")
    flag("--channels-last", action="store_true", help="keep images in channels-last memory format")
    flag("--compile", action="store_true", help="train through torch.compile")


def parse(
    parser: argparse.ArgumentParser, smoke_defaults: Mapping[str, Any], argv: Sequence[str] | None
) -> argparse.Namespace:
    """Parse the command line; ``--smoke`` changes defaults, flags that are given still count."""
    args = parser.parse_args(argv)
    if args.smoke:
        parser.set_defaults(**smoke_defaults)
        args = parser.parse_args(argv)
    for name in _OF_MIXNN:
        if args.method != "mixnn" and getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} is of --method mixnn, and this is --method {args.method}")
    return args


@contextmanager
def usage_errors(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Report what is wrong with flags or data as a usage error, without a traceback."""
    try:
        yield
    except (OSError, ValueError) as error:
        parser.error(str(error))


def with_mixnn(
    loader: DataLoader[Any], model: nn.Module, args: argparse.Namespace, scan_dataset: Dataset[Any]
) -> MixNNDataLoader:
    """Wrap the loader as the flags say."""
    arguments = recipes.robust(args.epochs) if args.method == "robust" else _arguments_of(args)
    return MixNNDataLoader(
        loader,
        model,
        **arguments,
        scan_dataset=scan_dataset,
        autocast_dtype=torch.bfloat16 if args.bf16 else None,
        seed=args.seed,
    )


def _arguments_of(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "num_neighbors": args.num_neighbors,
        "warmup_epochs": args.warmup_epochs,
        "correction_epoch": args.correction_epoch,
        "momentum": args.alpha,
        "neighbors": args.neighbors,
        "neighbor_pool": args.neighbor_pool,
        "search": args.search,
        "weighting": args.weighting,
    }


def placed(model: nn.Module, args: argparse.Namespace) -> nn.Module:
    """Move a new model to where, and into the memory format in which, it is trained."""
    if args.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model.to(torch.device(args.device))


def train_epoch(
    model: Callable[[Tensor], Tensor],
    loader: Iterable[Any],
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
    args: argparse.Namespace,
    title: str,
) -> float:
    """Train a model that is in train mode for one epoch; return the mean loss."""
    total, count = torch.zeros((), device=args.device), 0
    for inputs, targets in tqdm(loader, desc=title, disable=None, leave=False):
        with _autocast(args):
            logits = model(_to_device(inputs, args))
        loss = criterion(logits.float(), targets.to(args.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(targets)
        count += len(targets)
    return float(total) / count


def top_k_accuracy(
    model: nn.Module, loader: DataLoader[Any], args: argparse.Namespace, k: tuple[int, ...] = (1,)
) -> list[float]:
    """Return, for each k, the share of samples whose label is among the k most likely classes."""
    model.eval()
    correct, count = [0] * len(k), 0
    with torch.no_grad(), _autocast(args):
        for inputs, labels in tqdm(loader, desc="evaluation", disable=None, leave=False):
            ranked = model(_to_device(inputs, args)).topk(max(k), dim=1).indices.cpu()  # (B, max k)
            hits = ranked == labels.unsqueeze(1)
            correct = [sum_ + int(hits[:, :places].sum()) for sum_, places in zip(correct, k, strict=True)]
            count += len(labels)
    return [sum_ / count for sum_ in correct]


def last_and_best(rows: Sequence[Row], accuracy: str) -> dict[str, Row]:
    """Summarize a run by its last epoch and by its best, which cannot be known without the test labels."""
    best = max(rows, key=lambda row: float(row[accuracy]))
    last = {name: value for name, value in rows[-1].items() if name != "seconds"}
    return {"last_epoch": last, "best_epoch": {"epoch": best["epoch"], accuracy: best[accuracy]}}


def save_over(file: Path, state: Mapping[str, Any]) -> None:
    """Put a new checkpoint in the place of the old one, which stays whole if that fails at any point.

    Raises:
        OSError: it could not be written; the disk may be full.
    """
    # Written beside the old one and moved over it: on one file system that is a single step.
    temporary = file.with_suffix(".tmp")
    try:
        with temporary.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())  # else the new name may be on the disk before its contents when the power fails
        temporary.replace(file)
    except (OSError, RuntimeError) as error:
        # torch.save reports a failed write as an unexpected position in the file; what it met says why.
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        remedy = "the one before is whole: free some space and go on from it with --resume"
        if not file.exists():
            remedy = "there is none before it: free some space and start again"
        raise OSError(f"the checkpoint {file} could not be written ({reason}); {remedy}") from error
    finally:
        temporary.unlink(missing_ok=True)


class Run:
    """The files of a training run: ``checkpoint.pt``, ``log.csv`` and ``result.json``.

    A run that was stopped and resumed goes on as if it had not been stopped: bit for bit on a CPU without workers.
    The state of PyTorch's generators is kept for that; nothing in the examples draws from Python's or NumPy's.

    Args:
        args: the flags, ``output_dir`` among them.
        generator: shuffles the training data.
        parts: what has a state: model, optimizer, and so on.

    Raises:
        ValueError: there is nothing to resume, another run to overwrite, or flags have changed.
    """

    def __init__(self, args: argparse.Namespace, generator: torch.Generator, parts: dict[str, Stateful]) -> None:
        self.rows: list[Row] = []
        self._arguments: Row = {
            name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()
        }
        self._folder: Path = args.output_dir
        self._generator, self._parts = generator, parts
        if args.resume:
            self._resume()
        elif self._checkpoint.exists() and not args.smoke:
            raise ValueError(
                f"--output-dir {self._folder} holds a run; pass --resume to go on with it, or another folder"
            )
        self._folder.mkdir(parents=True, exist_ok=True)

    @property
    def _checkpoint(self) -> Path:
        return self._folder / "checkpoint.pt"

    def record(self, row: Row) -> None:
        """Save and show an epoch that has ended.

        Raises:
            OSError: it could not be saved.
        """
        self.rows.append(row)
        state: dict[str, Any] = {name: part.state_dict() for name, part in self._parts.items()}
        state["generator"], state["random_state"] = self._generator.get_state(), torch.get_rng_state()
        state["arguments"], state["rows"] = self._arguments, self.rows
        save_over(self._checkpoint, state)
        with (self._folder / "log.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            writer.writeheader()
            writer.writerows(self.rows)
        print("  ".join(f"{name} {_short(value)}" for name, value in row.items()), flush=True)

    def finish(self, packages: Iterable[str], metrics: Mapping[str, Any]) -> None:
        """Write the result: arguments, versions, device and metrics."""
        device = torch.device(self._arguments["device"])
        result = {
            "arguments": self._arguments,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
            "seconds": sum(row["seconds"] for row in self.rows),
            "metrics": metrics,
        }
        file = self._folder / "result.json"
        file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"{json.dumps(metrics, indent=2)}\none run with seed {self._arguments['seed']}, written to {file}")

    def _resume(self) -> None:
        if not self._checkpoint.exists():
            raise ValueError(f"--resume found no {self._checkpoint}; check --output-dir")
        state = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        for name, value in self._arguments.items():
            if name not in _CHANGEABLE_FLAGS and value != state["arguments"].get(name):
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"--resume must keep {flag}: it was {state['arguments'].get(name)} and is now {value}")
        if (done := len(state["rows"])) >= self._arguments["epochs"]:
            raise ValueError(
                f"--resume found {done} epochs done; --epochs must be larger, got {self._arguments['epochs']}"
            )
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        self.rows = state["rows"]
        self._generator.set_state(state["generator"])
        torch.set_rng_state(state["random_state"])


def _autocast(args: argparse.Namespace) -> torch.autocast:
    return torch.autocast(torch.device(args.device).type, dtype=torch.bfloat16, enabled=args.bf16)


def _to_device(inputs: Tensor, args: argparse.Namespace) -> Tensor:
    layout = torch.channels_last if args.channels_last else torch.preserve_format
    return inputs.to(args.device, non_blocking=True, memory_format=layout)


def _epoch_or_never(text: str) -> int | None:
    return None if text in ("-1", "none") else int(text)


def _device(text: str) -> str:
    try:
        kind = torch.device(text).type
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text!r} is no device; try cpu, cuda or cuda:1") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: PyTorch finds no CUDA device")
    return text


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
