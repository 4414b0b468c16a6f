"""A plain PyTorch loop with all that one may have, on digits of which 40 % have a wrong label.

Gradient accumulation, autocast, a gradient scaler, torch.compile, gradient checkpointing, channels_last, an average of
the weights (EMA) that is evaluated, checkpoint and resume. What MixNN adds are the two marked lines.

    python -m pip install -e ".[examples]"
    python examples/full_loop.py --checkpoint digits.pt             # stop it after any epoch
    python examples/full_loop.py --checkpoint digits.pt --resume
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes
from mixnn_loader.noise import symmetric


class Net(nn.Module):
    """A small convolutional network whose blocks are computed again in the backward pass, rather than kept."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        # Without BatchNorm, whose statistics would take in every batch twice.
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU()) for _ in range(2)
        )
        self.head = nn.Linear(16 * 16, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 8, 8) -> (B, 10)."""
        maps = self.stem(images)
        for block in self.blocks:
            maps = maps + checkpoint(block, maps, use_reentrant=False)
        logits: Tensor = self.head(nn.functional.max_pool2d(maps, 2).flatten(1))
        return logits


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print the accuracy of the averaged weights and the share of training labels that are right."""
    args = parse_arguments(argv)
    device, low_precision = torch.device(args.device), args.dtype != "float32"
    dtype = getattr(torch, args.dtype)
    torch.manual_seed(args.seed)
    images, true_labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    images, num_train = images.float().reshape(-1, 1, 8, 8) / 16, 1347
    noisy = symmetric(true_labels[:num_train], 0.4, num_classes=10, seed=args.seed).labels

    model = Net().to(device).to(memory_format=torch.channels_last)
    decay: Callable[[float], Any] = get_ema_multi_avg_fn
    ema = AveragedModel(model, multi_avg_fn=decay(0.95), use_buffers=True)
    trained = torch.compile(model, backend=args.compile) if args.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    generator = torch.Generator().manual_seed(args.seed)  # the loader saves its state
    loader = DataLoader(TensorDataset(images[:num_train], noisy), batch_size=64, shuffle=True, generator=generator)
    own_dtype = dtype if low_precision else None  # the loader's own forward passes are not within the autocast below
    # With ema in place of model, the loader's scans are the average's.
    mixnn = MixNNDataLoader(loader, model, **recipes.robust(epochs=args.epochs), autocast_dtype=own_dtype)  # changed
    criterion = MixNNLoss()  # changed

    parts = {"model": model, "ema": ema, "optimizer": optimizer, "scaler": scaler, "loader": mixnn}
    first = load(args.checkpoint, parts) if args.resume else 0
    for epoch in range(first, args.epochs):
        model.train()
        for step, (inputs, targets) in enumerate(mixnn, start=mixnn.batch + 1):
            with torch.autocast(device.type, dtype, enabled=low_precision):
                logits = trained(inputs.to(memory_format=torch.channels_last))
            loss = criterion(logits, targets) / args.accumulate
            scaler.scale(loss).backward()
            if step % args.accumulate == 0 or step == len(mixnn):
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
                ema.update_parameters(model)
        if args.checkpoint:  # after an optimizer step: gradients that wait for one are in no state
            save(args.checkpoint, parts, epoch + 1)
        print(f"epoch {epoch}: {mixnn.history[-1]['phase']}, last loss {loss.item() * args.accumulate:.3f}")

    ema.eval()
    with torch.no_grad():
        logits = ema(images[num_train:].to(device, memory_format=torch.channels_last))
    print(f"test accuracy {percentage(logits.argmax(dim=1).cpu(), true_labels[num_train:])}")
    corrected = mixnn.soft_targets.argmax(dim=1).cpu()
    print(f"labels right, as given {percentage(noisy, true_labels[:num_train])}", end=", ")
    print(f"after correction {percentage(corrected, true_labels[:num_train])}")


def save(file: Path, parts: dict[str, Any], epoch: int) -> None:
    """Save everything beside the old checkpoint and move it over: a crash while writing leaves the old one whole."""
    state = {name: part.state_dict() for name, part in parts.items()}
    temporary = file.with_name(f"{file.name}.tmp")
    try:
        torch.save({**state, "epoch": epoch, "random_state": torch.get_rng_state()}, temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def load(file: Path, parts: dict[str, Any]) -> int:
    """Load everything, and return the epoch to go on with."""
    state = torch.load(file, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["random_state"])
    return int(state["epoch"])


def percentage(found: Tensor, right: Tensor) -> str:
    """Write the share of equal entries."""
    return f"{(found == right).float().mean().item():.1%}"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag, dtypes = parser.add_argument, ("bfloat16", "float16", "float32")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    flag("--epochs", type=int, default=16, help="of all, those before --resume included (default: %(default)s)")
    flag("--accumulate", type=int, default=2, help="mini-batches to an optimizer step (default: %(default)s)")
    flag("--dtype", choices=dtypes, default="bfloat16", help="of autocast (default: %(default)s)")
    flag(
        "--compile", nargs="?", const="inductor", metavar="BACKEND", help="use torch.compile, with %(const)s by default"
    )
    flag("--device", default=device, help="that trains (default: %(default)s)")
    flag("--checkpoint", type=Path, help="file to write after every epoch")
    flag("--resume", action="store_true", help="go on from --checkpoint")
    flag("--seed", type=int, default=0, help="of initial weights, order and noise (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.checkpoint is not None and not args.checkpoint.parent.is_dir():
        parser.error(f"--checkpoint must be in a folder that exists, got {args.checkpoint}: make the folder first")
    if args.resume and (args.checkpoint is None or not args.checkpoint.exists()):
        parser.error(f"--resume needs --checkpoint, a file that exists, got {args.checkpoint}")
    return args


if __name__ == "__main__":
    main()
