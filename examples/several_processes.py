"""One process or many, unchanged: DistributedDataParallel on digits of which 40 % have a wrong label.

    python -m pip install -e ".[examples]"
    python examples/several_processes.py
    torchrun --nproc-per-node 2 examples/several_processes.py --checkpoint digits.pt
    torchrun --nproc-per-node 4 examples/several_processes.py --checkpoint digits.pt --resume

What MixNN adds are the two marked lines. A state that was saved between epochs is the same on all processes: one writes
it, and any number of processes may go on from it. --batch-size is that of all processes together.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes
from mixnn_loader.noise import symmetric


def main(argv: Sequence[str] | None = None) -> None:
    """Train in this process's group, which may be this process alone."""
    args = parse_arguments(argv)
    with process_group() as (rank, size, device):
        train(args, rank, size, device)


@contextmanager
def process_group() -> Iterator[tuple[int, int, torch.device]]:
    """Join the group that torchrun has started, if it has: (rank, number of processes, device)."""
    cuda = torch.cuda.is_available()
    if "RANK" not in os.environ:
        yield 0, 1, torch.device("cuda" if cuda else "cpu")
        return
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield dist.get_rank(), dist.get_world_size(), device
    finally:
        dist.destroy_process_group()


def train(args: argparse.Namespace, rank: int, size: int, device: torch.device) -> None:
    """Train, and let the first process print what came of it."""
    torch.manual_seed(args.seed)  # the same initial weights everywhere
    images, true_labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    images, num_train = images.float() / 16, 1347
    noisy = symmetric(true_labels[:num_train], 0.4, num_classes=10, seed=args.seed).labels
    train_set = TensorDataset(images[:num_train], noisy)

    model: nn.Module = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)).to(device)
    if size > 1:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(train_set, size, rank, seed=args.seed)
    loader = DataLoader(train_set, batch_size=max(1, args.batch_size // size), sampler=sampler)
    mixnn = MixNNDataLoader(loader, model, **recipes.robust(epochs=args.epochs))  # changed
    criterion = MixNNLoss()  # changed

    parts: dict[str, Any] = {"model": getattr(model, "module", model), "optimizer": optimizer, "loader": mixnn}
    if args.resume:
        state = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])

    for epoch in range(mixnn.epoch, args.epochs):
        mixnn.set_epoch(epoch)  # shuffles anew: goes on to the sampler
        model.train()
        for inputs, targets in mixnn:
            loss = criterion(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if rank == 0 and args.checkpoint:
            save(args.checkpoint, parts)
        if rank == 0:
            print(f"epoch {epoch}: {mixnn.history[-1]['phase']}, last loss {loss.item():.3f}")

    if rank == 0:
        model.eval()
        with torch.no_grad():
            predictions = parts["model"](images[num_train:].to(device)).argmax(dim=1).cpu()
        accuracy = (predictions == true_labels[num_train:]).double().mean()
        corrected = (mixnn.soft_targets.argmax(dim=1).cpu() == true_labels[:num_train]).double().mean()
        print(f"{size} process{'es' if size > 1 else ''}, {args.epochs} epochs: test accuracy {accuracy:.3f}")
        given = (noisy == true_labels[:num_train]).double().mean()
        print(f"training labels right: {given:.3f} as given, {corrected:.3f} after correction")


def save(file: Path, parts: dict[str, Any]) -> None:
    """Save everything beside the old checkpoint and move it over: a crash while writing leaves the old one whole."""
    temporary = file.with_name(f"{file.name}.tmp")
    try:
        torch.save({name: part.state_dict() for name, part in parts.items()}, temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag = parser.add_argument
    flag("--epochs", type=int, default=20, help="of all, those before --resume included (default: %(default)s)")
    flag("--batch-size", type=int, default=64, help="of all processes together (default: %(default)s)")
    flag("--seed", type=int, default=0, help="of initial weights, order and noise (default: %(default)s)")
    flag("--checkpoint", type=Path, help="file to write after every epoch")
    flag("--resume", action="store_true", help="go on from --checkpoint")
    args = parser.parse_args(argv)
    if args.checkpoint is not None and not args.checkpoint.parent.is_dir():
        parser.error(f"--checkpoint must be in a folder that exists, got {args.checkpoint}: make the folder first")
    if args.resume and (args.checkpoint is None or not args.checkpoint.exists()):
        parser.error(f"--resume needs a --checkpoint that exists, got {args.checkpoint}")
    return args


if __name__ == "__main__":
    main()
