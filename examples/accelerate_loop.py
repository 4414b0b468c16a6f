"""MixNN in a Hugging Face Accelerate loop, on digits of which 40 % have a wrong label.

The order matters: prepare the model and the optimizer, and wrap the DataLoader as you built it. Accelerate's own loader
is not used; MixNN's brings batches to the model's device, and is saved with everything else once it is registered.

    python -m pip install -e ".[examples]" accelerate
    python examples/accelerate_loop.py --output-dir digits             # stop it after any epoch
    python examples/accelerate_loop.py --output-dir digits --resume
    accelerate launch --num_processes 2 --cpu examples/accelerate_loop.py --cpu

On several processes each draws its part, and all of them know the same between epochs, when this saves. --batch-size is
that of all processes together.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes
from mixnn_loader.noise import symmetric

NUM_TRAIN = 1347


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print the test accuracy and the share of training labels that are right."""
    args = parse_arguments(argv)
    accelerator = Accelerator(
        cpu=args.cpu, mixed_precision=args.mixed_precision, gradient_accumulation_steps=args.accumulate
    )
    set_seed(args.seed)
    images, true_labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    images = images.float() / 16
    noisy = symmetric(true_labels[:NUM_TRAIN], 0.4, num_classes=10, seed=args.seed).labels
    train_set, size = TensorDataset(images[:NUM_TRAIN], noisy), accelerator.num_processes
    sampler: DistributedSampler[Any] = DistributedSampler(train_set, size, accelerator.process_index, seed=args.seed)
    loader = DataLoader(train_set, batch_size=max(1, args.batch_size // size), sampler=sampler)

    model: nn.Module = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    model, optimizer = accelerator.prepare(model, optimizer)
    mixnn = MixNNDataLoader(loader, model, **recipes.robust(epochs=args.epochs), seed=args.seed)
    accelerator.register_for_checkpointing(mixnn)
    criterion = MixNNLoss()

    first = load(accelerator, args.output_dir) if args.resume else 0
    for epoch in range(first, args.epochs):
        mixnn.set_epoch(epoch)  # shuffles anew: goes on to the sampler
        model.train()
        for inputs, targets in mixnn:
            # At the end of an epoch nothing is stepped early: what is left counts towards the next epoch's first step.
            with accelerator.accumulate(model):
                loss = criterion(model(inputs), targets)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
        save(accelerator, args.output_dir, epoch + 1)
        accelerator.print(f"epoch {epoch}: {mixnn.history[-1]['phase']}, last loss {loss.item():.3f}")

    model.eval()
    with torch.no_grad():
        predictions = model(images[NUM_TRAIN:].to(accelerator.device)).argmax(dim=1).cpu()
    accelerator.print(f"test accuracy {percentage(predictions, true_labels[NUM_TRAIN:])}")
    corrected = mixnn.soft_targets.argmax(dim=1).cpu()
    given, right = percentage(noisy, true_labels[:NUM_TRAIN]), percentage(corrected, true_labels[:NUM_TRAIN])
    accelerator.print(f"labels right, as given {given}, after correction {right}")


def save(accelerator: Accelerator, folder: Path, epoch: int) -> None:
    """Save to a folder of its own. Once that is whole, `latest` names it, and the one before goes."""
    name = f"epoch-{epoch}"
    accelerator.save_state(str(folder / name))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (folder / "latest.tmp").write_text(name, encoding="utf-8")
        (folder / "latest.tmp").replace(folder / "latest")
        for other in folder.glob("epoch-*"):
            if other.name != name:
                shutil.rmtree(other)


def load(accelerator: Accelerator, folder: Path) -> int:
    """Load the latest checkpoint, and return the epoch to go on with."""
    name = (folder / "latest").read_text(encoding="utf-8")
    accelerator.load_state(str(folder / name))
    return int(name.removeprefix("epoch-"))


def percentage(found: Tensor, right: Tensor) -> str:
    """Write the share of equal entries."""
    return f"{(found == right).float().mean().item():.1%}"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag, precisions, folder = parser.add_argument, ("no", "bf16", "fp16"), Path("accelerate-digits")
    flag("--epochs", type=int, default=20, help="of all, those before --resume included (default: %(default)s)")
    flag("--batch-size", type=int, default=32, help="of all processes together (default: %(default)s)")
    flag("--accumulate", type=int, default=1, help="mini-batches to an optimizer step (default: %(default)s)")
    flag("--mixed-precision", choices=precisions, default="no", help="of the Accelerator (default: %(default)s)")
    flag("--cpu", action="store_true", help="even where there is a GPU")
    flag("--output-dir", type=Path, default=folder, help="folder of the checkpoint (default: %(default)s)")
    flag("--resume", action="store_true", help="go on from the checkpoint in --output-dir")
    flag("--seed", type=int, default=0, help="of initial weights, order and noise (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.resume and not (args.output_dir / "latest").exists():
        parser.error(f"--resume found no checkpoint in {args.output_dir}")
    return args


if __name__ == "__main__":
    main()
