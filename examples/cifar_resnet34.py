"""MixNN, or cross-entropy, on CIFAR-10 or CIFAR-100 with label noise: the set-up of Lu & He (2021), ResNet34.

    python examples/cifar_resnet34.py --data-dir data --download --noise symmetric --noise-rate 0.4
    python examples/cifar_resnet34.py --image-folder cifar10 --method robust --workers 8 --bf16 --channels-last
    python examples/cifar_resnet34.py --smoke

Every hyper-parameter is a flag; its default is the paper's where the help says so. Neighbors are searched by HNSW, as
in the paper; --search auto is faster. Noise is drawn for each label independently, so that the actual rate, which is
printed, differs a little from the nominal one. For symmetric noise of 40 % the paper gives a test accuracy of 92.89 %
on CIFAR-10 and 72.97 % on CIFAR-100 (last epoch, mean of three runs).

--output-dir gets checkpoint.pt after every epoch (--resume goes on from it), result.json at the end, and log.csv, a
row an epoch, accuracies as shares:
    mislabeled_train_accuracy: of the wrongly labeled training samples, predicted as their *wrong* label (memorized);
    correction_accuracy: of all training samples, those whose soft target is largest at the true label;
    noise_rate_estimate: what the mixture makes of the losses, not knowing the true labels.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _training import (
    RandomImages,
    Run,
    add_mixnn_flags,
    add_run_flags,
    last_and_best,
    parse,
    placed,
    top_k_accuracy,
    train_epoch,
    usage_errors,
    with_mixnn,
)
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets, transforms
from torchvision.models import resnet34

from mixnn_loader import MixNNDataLoader, MixNNLoss
from mixnn_loader import noise as label_noise
from mixnn_loader.datasets import image_folder
from mixnn_loader.datasets.cifar_classes import CIFAR10_CLASSES, CIFAR100_CLASSES

CLASSES = {"cifar10": CIFAR10_CLASSES, "cifar100": CIFAR100_CLASSES}
WARMUP_EPOCHS = {"cifar10": 10, "cifar100": 30}
MEAN_AND_STD = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
}
"""The constants of the authors' released code."""
SMOKE = {"epochs": 4, "warmup_epochs": 1, "correction_epoch": 2, "batch_size": 8}
SMOKE_IMAGES = {"train": 16, "test": 8}


class Data(NamedTuple):
    """The training set with noisy labels, the same without augmentation, and the clean test set."""

    train: Dataset[Any]
    scan: Dataset[Any]
    test: Dataset[Any]
    true_labels: Tensor
    is_noisy: Tensor


class Relabeled(Dataset[tuple[Any, int]]):
    """A dataset with other labels."""

    def __init__(self, dataset: Any, labels: Tensor) -> None:
        self.dataset, self.labels = dataset, labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.dataset[index][0], self.labels[index]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the example."""
    parser = build_parser()
    args = parse(parser, SMOKE, argv)
    complete(args, parser)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    with usage_errors(parser):
        data = load_data(args)
        model = build_model(args)
        generator = torch.Generator().manual_seed(args.seed)
        loading: dict[str, Any] = {"num_workers": args.workers, "pin_memory": args.device.startswith("cuda")}
        plain = DataLoader(data.train, args.batch_size, shuffle=True, generator=generator, **loading)
        mixnn = None if args.method == "ce" else with_mixnn(plain, model, args, data.scan)
        criterion = nn.CrossEntropyLoss() if mixnn is None else MixNNLoss()
        optimizer = SGD(model.parameters(), args.lr, args.sgd_momentum, weight_decay=args.weight_decay)
        scheduler = CosineAnnealingWarmRestarts(optimizer, args.lr_period, eta_min=args.min_lr)
        parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        run = Run(args, generator, parts if mixnn is None else {**parts, "loader": mixnn})

    test_loader = DataLoader(data.test, args.batch_size, **loading)
    mislabeled = DataLoader(Subset(data.scan, data.is_noisy.nonzero().flatten().tolist()), args.batch_size, **loading)
    trained = torch.compile(model) if args.compile else model
    for epoch in range(len(run.rows), args.epochs):
        model.train()
        start, lr = time.perf_counter(), scheduler.get_last_lr()[0]
        loss = train_epoch(trained, mixnn or plain, criterion, optimizer, args, f"epoch {epoch}")
        scheduler.step()
        run.record(
            {
                "epoch": epoch,
                "phase": mixnn.history[-1]["phase"] if mixnn else "cross-entropy",
                "lr": lr,
                "train_loss": loss,
                "test_accuracy": top_k_accuracy(model, test_loader, args)[0],
                "mislabeled_train_accuracy": top_k_accuracy(model, mislabeled, args)[0] if len(mislabeled) else None,
                "correction_accuracy": correction_accuracy(mixnn, data.true_labels) if mixnn else None,
                "noise_rate_estimate": mixnn.history[-1]["noise_rate"] if mixnn else None,
                "seconds": time.perf_counter() - start,
            }
        )
    actual_rate = float(data.is_noisy.double().mean())
    run.finish(
        ("torch", "torchvision", "mixnn_loader"),
        {"actual_noise_rate": actual_rate, **last_and_best(run.rows, "test_accuracy")},
    )


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag = parser.add_argument_group("data").add_argument
    flag("--dataset", choices=tuple(CLASSES), default="cifar10", help="(default: %(default)s)")
    flag("--data-dir", type=Path, help="torchvision's CIFAR folder")
    flag("--download", action="store_true", help="download CIFAR into --data-dir where it is missing")
    flag("--image-folder", type=Path, help="in place of --data-dir: train/<class>/*.jpg and test/<class>/*.jpg")
    flag(
        "--noise",
        choices=("symmetric", "symmetric-inclusive", "asymmetric", "pairflip", "none"),
        default="symmetric",
        help="symmetric: to one of the other classes (paper); symmetric-inclusive: to any class (its released code)",
    )
    flag("--noise-rate", type=float, help="probability of a label to be changed (default: 0.4; paper: 0.2 to 0.8)")
    flag("--noise-seed", type=int, default=0, help="(default: %(default)s)")
    add_mixnn_flags(parser, warmup_epochs=None, warmup_help="(paper: 10 for cifar10, 30 for cifar100)")
    parser.set_defaults(search=None)  # the paper's, if anything is searched: see `complete`
    flag = parser.add_argument_group("optimization").add_argument
    flag("--epochs", type=int, default=300, help="warm-up included (paper: 300)")
    flag("--batch-size", type=int, default=128, help="(paper: 128)")
    flag("--lr", type=float, default=0.02, help="of SGD (paper: 0.02)")
    flag("--sgd-momentum", type=float, default=0.9, help="(paper: 0.9)")
    flag("--weight-decay", type=float, default=1e-3, help="(paper: 0.001)")
    flag("--lr-period", type=int, default=10, help="epochs between warm restarts of the cosine schedule (paper: 10)")
    flag("--min-lr", type=float, default=0.001, help="the learning rate at the end of a period (paper: 0.001)")
    add_run_flags(parser)
    return parser


def complete(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Check flags that depend on each other, and fill in the defaults that do."""
    sources = sum((args.data_dir is not None, args.image_folder is not None, args.smoke))
    if sources != 1:
        parser.error("give one of --data-dir, --image-folder and --smoke")
    if args.download and args.data_dir is None:
        parser.error("--download needs --data-dir")
    if args.noise == "none" and args.noise_rate is not None:
        parser.error(f"--noise none has no --noise-rate, got {args.noise_rate}")
    if args.noise_rate is None:
        args.noise_rate = 0.0 if args.noise == "none" else 0.4
    if args.warmup_epochs is None:
        args.warmup_epochs = WARMUP_EPOCHS[args.dataset]
    if args.search is None:
        args.search = "hnsw" if args.neighbors == "dataset" and args.num_neighbors > 0 else "auto"
    if args.output_dir is None:
        name = f"{args.dataset}-{args.noise}-{args.noise_rate}-{args.method}-seed{args.seed}"
        args.output_dir = Path("runs", "smoke-cifar" if args.smoke else name)


def load_data(args: argparse.Namespace) -> Data:
    """Load the images and corrupt the training labels."""
    plain = [transforms.ToTensor(), transforms.Normalize(*MEAN_AND_STD[args.dataset])]
    augment = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    train = load_split(args, "train", transforms.Compose(augment + plain))
    scan = load_split(args, "train", transforms.Compose(plain))
    test = load_split(args, "test", transforms.Compose(plain))
    noisy = corrupted(train.targets, args)
    print(f"noise: {args.noise}, nominal rate {args.noise_rate}, actual rate {noisy.actual_rate:.4f}")
    return Data(
        Relabeled(train, noisy.labels), Relabeled(scan, noisy.labels), test, torch.tensor(train.targets), noisy.is_noisy
    )


def load_split(args: argparse.Namespace, split: str, transform: Any) -> Any:
    """Load the training or test images, with true labels in ``targets``."""
    num_classes = len(CLASSES[args.dataset])
    if args.smoke:
        return RandomImages(SMOKE_IMAGES[split], 32, num_classes, transform, seed=len(split))
    if args.image_folder is not None:
        folder = image_folder(args.image_folder, "train" if split == "train" else "test", transform)
        if len(folder.classes) != num_classes:
            raise ValueError(
                f"--image-folder has {len(folder.classes)} classes, --dataset {args.dataset} has {num_classes}"
            )
        if args.noise == "asymmetric" and tuple(folder.classes) != CLASSES[args.dataset]:
            raise ValueError(f"--noise asymmetric needs --image-folder to have the classes {CLASSES[args.dataset]}")
        return folder
    dataset = datasets.CIFAR10 if args.dataset == "cifar10" else datasets.CIFAR100
    try:
        return dataset(args.data_dir, train=split == "train", transform=transform, download=args.download)
    except RuntimeError as error:
        raise ValueError(f"--data-dir {args.data_dir}: {error}; pass --download to fetch it") from error


def corrupted(labels: list[int], args: argparse.Namespace) -> label_noise.NoisyLabels:
    """Apply the noise model."""
    num_classes, rate, seed = len(CLASSES[args.dataset]), args.noise_rate, args.noise_seed
    match args.noise:
        case "asymmetric":
            return label_noise.asymmetric(labels, rate, dataset=args.dataset, seed=seed)
        case "pairflip":
            return label_noise.pairflip(labels, rate, num_classes, seed=seed)
        case kind:
            inclusive = kind == "symmetric-inclusive"
            return label_noise.symmetric(labels, rate, num_classes, inclusive=inclusive, seed=seed)


def build_model(args: argparse.Namespace) -> nn.Module:
    """ResNet34 for 32 x 32 images: a stem that does not shrink them."""
    model: nn.Module = resnet34(num_classes=len(CLASSES[args.dataset]))
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return placed(model, args)


def correction_accuracy(loader: MixNNDataLoader, true_labels: Tensor) -> float:
    """Return the share of training samples whose soft target is largest at the true label."""
    return float((loader.soft_targets.argmax(dim=1).cpu() == true_labels).double().mean())


if __name__ == "__main__":
    main()
