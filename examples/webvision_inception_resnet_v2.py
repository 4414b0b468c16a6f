"""MixNN, or cross-entropy, on WebVision-mini with InceptionResNetV2 (Lu & He 2021): real label noise from the web.

    python examples/webvision_inception_resnet_v2.py --data-dir webvision --ilsvrc-dir imagenet/val --workers 8 --bf16
    python examples/webvision_inception_resnet_v2.py --smoke

Trains on the Google images of the first 50 WebVision classes, and measures top-1 and top-5 accuracy on WebVision's
validation images and, with --ilsvrc-dir, on ILSVRC12's of the same classes. The paper gives 75.39 % and 90.71 %, and
70.54 % and 90.31 %.

From the paper: the network, the input size of 227, and the method's K and alpha. W and E_s are the paper's for
CIFAR-10. The rest, marked "common" in the help, is taken from released code for this benchmark, that of ELR+ (Liu et
al. 2020); DivideMix's (Li et al. 2020) has a learning rate of 0.01, and 80 epochs with the step after 40. The network
starts from random weights. Pixels are scaled by a mean and standard deviation of 0.5, as is usual for this network.

--output-dir gets checkpoint.pt after every epoch (--resume goes on from it), result.json at the end, and log.csv, a
row an epoch, accuracies as shares.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import timm
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
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mixnn_loader import MixNNLoss
from mixnn_loader.datasets import WEBVISION_MINI_CLASSES, ilsvrc_val, webvision_mini

SMOKE = {"epochs": 3, "warmup_epochs": 1, "correction_epoch": 2, "batch_size": 4, "resize": 88, "crop_size": 80}
SMOKE_IMAGES = {"train": 8, "val": 8}


class Data(NamedTuple):
    """The training set, the same without augmentation, and the validation sets by name."""

    train: Dataset[Any]
    scan: Dataset[Any]
    validation: dict[str, Dataset[Any]]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the example."""
    parser = build_parser()
    args = parse(parser, SMOKE, argv)
    complete(args, parser)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    with usage_errors(parser):
        data = load_data(args)
        model: nn.Module = timm.create_model("inception_resnet_v2", num_classes=WEBVISION_MINI_CLASSES)
        model = placed(model, args)
        generator = torch.Generator().manual_seed(args.seed)
        loading: dict[str, Any] = {"num_workers": args.workers, "pin_memory": args.device.startswith("cuda")}
        plain = DataLoader(data.train, args.batch_size, shuffle=True, generator=generator, **loading)
        mixnn = None if args.method == "ce" else with_mixnn(plain, model, args, data.scan)
        criterion = nn.CrossEntropyLoss() if mixnn is None else MixNNLoss()
        optimizer = SGD(model.parameters(), args.lr, args.sgd_momentum, weight_decay=args.weight_decay)
        scheduler = MultiStepLR(optimizer, args.lr_steps, gamma=0.1)
        parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        run = Run(args, generator, parts if mixnn is None else {**parts, "loader": mixnn})

    validation = {name: DataLoader(images, args.batch_size, **loading) for name, images in data.validation.items()}
    trained = torch.compile(model) if args.compile else model
    for epoch in range(len(run.rows), args.epochs):
        model.train()
        start, lr = time.perf_counter(), scheduler.get_last_lr()[0]
        loss = train_epoch(trained, mixnn or plain, criterion, optimizer, args, f"epoch {epoch}")
        scheduler.step()
        accuracies: dict[str, float] = {}
        for name, loader in validation.items():
            accuracies[f"{name}_top1"], accuracies[f"{name}_top5"] = top_k_accuracy(model, loader, args, k=(1, 5))
        run.record(
            {
                "epoch": epoch,
                "phase": mixnn.history[-1]["phase"] if mixnn else "cross-entropy",
                "lr": lr,
                "train_loss": loss,
                **accuracies,
                "noise_rate_estimate": mixnn.history[-1]["noise_rate"] if mixnn else None,
                "seconds": time.perf_counter() - start,
            }
        )
    run.finish(("torch", "torchvision", "timm", "mixnn_loader"), last_and_best(run.rows, "webvision_top1"))


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag = parser.add_argument_group("data").add_argument
    flag("--data-dir", type=Path, help="WebVision 1.0, resized images: holds info/, google/ and val_images_256/")
    flag("--ilsvrc-dir", type=Path, help="ILSVRC12 validation images, a folder a class, named 0 to 49 or by synset")
    flag("--ilsvrc-synsets", type=Path, help="for folders named by synset (default: info/synsets.txt in --data-dir)")
    flag("--resize", type=int, default=256, help="shorter side of an image before it is cropped (common: 256)")
    flag("--crop-size", type=int, default=227, help="size of the network's input (paper: 227)")
    flag(
        "--train-crop",
        choices=("random", "random-resized"),
        default="random",
        help="training crop: of one size (common), or of random size and shape; both with random flips",
    )
    add_mixnn_flags(parser, warmup_epochs=10, warmup_help="warm-up (paper: 10, on CIFAR-10)")
    flag = parser.add_argument_group("optimization").add_argument
    flag("--epochs", type=int, default=100, help="warm-up included (common: 100)")
    flag("--batch-size", type=int, default=32, help="(common: 32)")
    flag("--lr", type=float, default=0.02, help="of SGD (common: 0.02)")
    flag("--lr-steps", type=int, nargs="*", default=[50], help="epochs after which it is divided by 10 (common: 50)")
    flag("--sgd-momentum", type=float, default=0.9, help="(common: 0.9)")
    flag("--weight-decay", type=float, default=5e-4, help="(common: 0.0005)")
    add_run_flags(parser)
    return parser


def complete(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Check flags that depend on each other, and fill in the defaults that do."""
    if args.smoke == (args.data_dir is not None):
        parser.error("give one of --data-dir and --smoke")
    if args.smoke and args.ilsvrc_dir is not None:
        parser.error("--smoke has its own images, --ilsvrc-dir does not go with it")
    if args.ilsvrc_synsets is not None and args.ilsvrc_dir is None:
        parser.error("--ilsvrc-synsets needs --ilsvrc-dir")
    if args.crop_size > args.resize:
        parser.error(f"--crop-size must be at most --resize, got {args.crop_size} and {args.resize}")
    if args.output_dir is None:
        args.output_dir = Path("runs", "smoke-webvision" if args.smoke else f"webvision-{args.method}-seed{args.seed}")


def load_data(args: argparse.Namespace) -> Data:
    """Find the images; they are read when they are needed."""
    plain = [transforms.ToTensor(), transforms.Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))]
    center = transforms.Compose([transforms.Resize(args.resize), transforms.CenterCrop(args.crop_size), *plain])
    crop = (
        [transforms.RandomResizedCrop(args.crop_size)]
        if args.train_crop == "random-resized"
        else [transforms.Resize(args.resize), transforms.RandomCrop(args.crop_size)]
    )
    augment = transforms.Compose([*crop, transforms.RandomHorizontalFlip(), *plain])
    if args.smoke:
        train, scan = (random_images("train", args, transform, seed=0) for transform in (augment, center))
        names = enumerate(("webvision", "ilsvrc"), start=1)
        return Data(train, scan, {name: random_images("val", args, center, seed) for seed, name in names})

    train, scan = (webvision_mini(args.data_dir, "train", transform) for transform in (augment, center))
    validation: dict[str, Dataset[Any]] = {"webvision": webvision_mini(args.data_dir, "val", center)}
    if args.ilsvrc_dir is not None:
        synsets = args.ilsvrc_synsets or args.data_dir / "info" / "synsets.txt"
        validation["ilsvrc"] = ilsvrc_val(args.ilsvrc_dir, center, synsets=synsets)
    return Data(train, scan, validation)


def random_images(split: str, args: argparse.Namespace, transform: Any, seed: int) -> Dataset[Any]:
    """Make up images for ``--smoke``."""
    return RandomImages(SMOKE_IMAGES[split], args.resize + 8, WEBVISION_MINI_CLASSES, transform, seed)


if __name__ == "__main__":
    main()
