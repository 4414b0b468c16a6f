"""``mixnn-labels``: from a folder of images, or a file of features, to the labels that look wrong."""

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeGuard

import torch

from mixnn_loader import LabelReport, recipes
from mixnn_loader.command.images import files_of, for_timm, small_images
from mixnn_loader.command.networks import from_timm, perceptron, small_convolutional
from mixnn_loader.command.samples import (
    DEMO_NOISE,
    ImageFiles,
    Rows,
    UsageError,
    demo_samples,
    read_samples,
)
from mixnn_loader.command.training import train_and_report
from mixnn_loader.datasets.in_memory import InMemoryDataset
from mixnn_loader.report.html import check_installed

SMALL = 32
"""Pixels that images are brought to for the network of our own."""

MOST_LISTED = 10
"""Unreadable images that are listed on the terminal; the file has all."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names that a terminal does not have must not end the command
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.demo == (args.data is not None):
        parser.error("give a folder or a file, or --demo, and not both")
    if args.model is None and (args.weights is not None or args.download):
        parser.error("--weights and --download are of --model")
    try:
        run(args)
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Say what the command takes."""
    parser = argparse.ArgumentParser(
        prog="mixnn-labels",
        description="Train once on data whose labels may be wrong, and say which ones are. Writes labels.html, to look "
        "at and decide upon, and suspects.csv. Nothing is downloaded unless --download is given.",
    )
    add = parser.add_argument
    add(
        "data",
        nargs="?",
        type=Path,
        metavar="DATA",
        help="a folder with a folder of images a class; a .csv file with the columns path (relative to the file) and "
        "label; or a .npz or .pt file with features (N, d) and labels (N,)",
    )
    add(
        "--demo",
        action="store_true",
        help=f"handwritten digits, {DEMO_NOISE:.0%} of them with a wrong label".replace("%", "%%"),
    )
    add("--output", type=Path, default=Path(), metavar="FOLDER", help="where to write the files (default: here)")
    add("--epochs", type=_at_least(1), default=30, help="how long to train (default: %(default)s)")
    add(
        "--batch-size",
        type=_at_least(1),
        default=128,
        metavar="B",
        help="samples a training step (default: %(default)s)",
    )
    add("--size", type=_at_least(1), metavar="PIXELS", help=f"of images (default: {SMALL}; with --model, its own)")
    add("--flip", action="store_true", help="mirror images at random: right for photographs, wrong for letters")
    add("--model", metavar="NAME", help="a network of timm's in place of a small one")
    add("--weights", metavar="FILE", help="weights for --model, from a file on disk")
    add("--download", action="store_true", help="download timm's weights for --model")
    add("--top", type=_at_least(1), default=1000, metavar="N", help="suspects on the page (default: %(default)s)")
    add("--workers", type=_at_least(0), default=0, help="processes that read the data (default: none besides)")
    add(
        "--device",
        type=_device,
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="where to train (default: %(default)s)",
    )
    add("--seed", type=_at_least(0), default=0, help="of weights, order and augmentation (default: %(default)s)")
    return parser


def run(args: argparse.Namespace) -> None:
    """Read, train, report."""
    check_installed()
    args.output.mkdir(parents=True, exist_ok=True)
    samples = demo_samples() if args.demo else read_samples(args.data)
    _check_flags(samples, args)
    _tell_unreadable(samples, args.output)
    torch.manual_seed(args.seed)
    num_classes = len(samples.class_names)
    if args.model is not None and isinstance(samples, ImageFiles):
        model = from_timm(args.model, num_classes, args.weights, download=args.download)
        shown = files_of(samples)
        data, scan_data = for_timm(shown, model, args.size, flip=args.flip)
    elif _are_features(samples):
        model = perceptron(samples.inputs.shape[1], num_classes)
        data = scan_data = shown = InMemoryDataset(samples.inputs, samples.labels)
    else:
        data, scan_data, shown = small_images(samples, args.size or SMALL, flip=args.flip)
        model = small_convolutional(data.inputs.shape[1], num_classes)
    rows = samples.readable if isinstance(samples, ImageFiles) else range(len(samples.labels))
    print(f"{len(rows)} samples, {num_classes} classes, training for {args.epochs} epochs on {args.device}")
    report = train_and_report(
        data,
        scan_data,
        model,
        rows,
        epochs=args.epochs,
        batch_size=min(args.batch_size, len(rows)),
        workers=args.workers,
        device=args.device,
        seed=args.seed,
        recipe=recipes.features if _are_features(samples) else recipes.robust,
    )
    paths = None
    if isinstance(samples, ImageFiles):
        paths = [samples.names[index] for index in report.indices]
    report = report.named(class_names=samples.class_names, paths=paths)
    page, table = args.output / "labels.html", args.output / "suspects.csv"
    report.issues().to_csv(table)
    report.to_html(page, shown, top=args.top)
    print(summary(report, samples, page, table))


def summary(report: LabelReport, samples: ImageFiles | Rows, page: Path, table: Path) -> str:
    """Say what was found."""
    low, high = report.wrong_labels_interval
    issues = report.issues()
    expected = f"About {report.wrong_labels:.0f} of {report.num_samples} labels are expected to be wrong"
    lines = [f"{expected} ({low:.0f} to {high:.0f}), {len(issues)} are worth a look."]
    if len(issues) > 0:
        low, high = (100 * share for share in issues.expected_precision_interval(len(issues)))
        lines.append(f"Of these, {low:.0f} to {high:.0f} % are expected to be wrong, of the first ones more.")
    for row in range(min(5, len(issues))):
        given, suggested = (
            issues.class_names[labels[row]] for labels in (issues.given_labels, issues.suggested_labels)
        )
        name = f"index {issues.indices[row]}" if issues.paths is None else issues.paths[row]
        lines.append(f"  {name}: given as {given}, looks like {suggested}")
    if isinstance(samples, Rows) and samples.true_labels is not None:
        wrong = (samples.labels != samples.true_labels).numpy()
        found = int(wrong[issues.indices].sum())
        lines.append(f"Of the {int(wrong.sum())} labels that were made wrong, {found} are among these {len(issues)}.")
    lines.append(f"Look at them: {page}\nAs a table:   {table}")
    return "\n".join(lines)


def _are_features(samples: ImageFiles | Rows) -> TypeGuard[Rows]:
    return isinstance(samples, Rows) and samples.inputs.dim() == 2


def _check_flags(samples: ImageFiles | Rows, args: argparse.Namespace) -> None:
    """Refuse what would have no effect."""
    for flag in ("model", "size", "flip"):
        if isinstance(samples, Rows) and getattr(args, flag):
            raise UsageError(f"--{flag} is for files of images")


def _tell_unreadable(samples: ImageFiles | Rows, output: Path) -> None:
    if not isinstance(samples, ImageFiles) or not samples.unreadable:
        return
    file = output / "unreadable.txt"
    lines = [f"{samples.names[row]}: {reason}" for row, reason in samples.unreadable.items()]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="surrogateescape")
    print(f"{len(lines)} images cannot be read and are left out; all are listed in {file}", file=sys.stderr)
    for line in lines[:MOST_LISTED]:
        print(f"  {line}", file=sys.stderr)


def _at_least(least: int) -> Callable[[str], int]:
    """Return what reads an integer of a flag, and refuses a smaller one."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"must be an integer >= {least}, got {text}")
        return number

    return read


def _device(text: str) -> torch.device:
    try:
        return torch.empty(0, dtype=torch.float32, device=text).device
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: {str(error).splitlines()[0]}") from error
