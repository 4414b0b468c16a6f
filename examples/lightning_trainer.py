"""MixNN with the Lightning Trainer, on digits of which 40 % have a wrong label.

The LightningModule takes its loss from MixNNLoss, and the Trainer its batches from MixNNDataLoader. `KeepLoader` saves
the loader's state with every checkpoint and restores it: Lightning saves it by itself, too, but only the first
process's, and does not load what it saved at the end of an epoch.

On several processes each draws its part: Lightning gives a plain DataLoader a DistributedSampler, but leaves MixNN's
loader as it is. --batch-size is that of all processes together.

    python -m pip install -e ".[examples]" lightning
    python examples/lightning_trainer.py --output-dir digits             # stop it after any epoch
    python examples/lightning_trainer.py --output-dir digits --resume
    python examples/lightning_trainer.py --accelerator cpu --devices 2
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss, recipes
from mixnn_loader.noise import symmetric

NUM_TRAIN = 1347


class Digits(pl.LightningModule):
    """A small network for 8x8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10))
        self.criterion = MixNNLoss()

    def forward(self, images: Tensor) -> Tensor:
        """(B, 64) -> (B, 10)."""
        logits: Tensor = self.net(images)
        return logits

    def training_step(self, batch: MixNNBatch) -> Tensor:
        """Return the loss of mixed inputs against their mixed targets."""
        inputs, targets = batch
        loss: Tensor = self.criterion(self(inputs), targets)
        self.log("train_loss", loss)
        return loss

    def test_step(self, batch: list[Tensor]) -> None:
        """Log the accuracy on plain images and labels."""
        images, labels = batch
        accuracy = (self(images).argmax(dim=1) == labels).float().mean()
        self.log("test_accuracy", accuracy, batch_size=len(labels), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)


class KeepLoader(Callback):
    """Makes the loader's state part of the checkpoint, and tells the loader which epoch the Trainer is in."""

    def __init__(self, loader: MixNNDataLoader) -> None:
        self.loader = loader

    def state_dict(self) -> dict[str, Any]:
        """Return what the checkpoint keeps: the first process writes it, within an epoch with the states of all."""
        own = self.loader.state_dict()
        if self.loader.batch in (0, len(self.loader)) or not dist.is_initialized():
            return own
        states: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
        dist.gather_object(own, states)
        return {"processes": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        if (states := state_dict.get("processes")) is not None:
            # Of another number of processes there is none that fits: the loader says so.
            state_dict = states[dist.get_rank() % len(states) if dist.is_initialized() else 0]
        self.loader.load_state_dict(state_dict)

    def on_save_checkpoint(self, _: pl.Trainer, __: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Leave out what Lightning has saved of the loader: it would give every process the first one's state."""
        checkpoint["loops"]["fit_loop"]["state_dict"].pop("combined_loader", None)

    def on_train_start(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        """Set the epoch to go on with: of one that is complete, Lightning does not ask for the end."""
        self.loader.set_epoch(trainer.current_epoch)

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        """Set the epoch. In the middle of one that is resumed, this is not called."""
        self.loader.set_epoch(trainer.current_epoch)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print the test accuracy and the share of training labels that are right."""
    args = parse_arguments(argv)
    pl.seed_everything(args.seed, verbose=False)
    images, true_labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    images = images.float() / 16
    noisy = symmetric(true_labels[:NUM_TRAIN], 0.4, num_classes=10, seed=args.seed).labels
    train_set = TensorDataset(images[:NUM_TRAIN], noisy)
    test = DataLoader(TensorDataset(images[NUM_TRAIN:], true_labels[NUM_TRAIN:]), batch_size=225)

    trainer: Any = pl.Trainer(
        max_epochs=args.epochs,
        accelerator=args.accelerator,
        devices=args.devices,
        precision=args.precision,
        accumulate_grad_batches=args.accumulate,
        callbacks=[ModelCheckpoint(args.output_dir, save_last=True, every_n_train_steps=args.save_every)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    size, rank = trainer.world_size, trainer.global_rank  # the process group is there only within fit
    sampler: DistributedSampler[Any] = DistributedSampler(train_set, size, rank, seed=args.seed)
    train = DataLoader(train_set, batch_size=max(1, args.batch_size // size), sampler=sampler)

    module = Digits()
    loader = MixNNDataLoader(train, module, **recipes.robust(epochs=args.epochs), seed=args.seed)
    trainer.callbacks.append(KeepLoader(loader))
    trainer.fit(module, loader, ckpt_path=str(args.output_dir / "last.ckpt") if args.resume else None)

    accuracy = trainer.test(module, test, verbose=False)[0]["test_accuracy"]
    corrected = loader.soft_targets.argmax(dim=1).cpu()
    given, right = (share(labels == true_labels[:NUM_TRAIN]) for labels in (noisy, corrected))
    if trainer.is_global_zero:
        print(f"test accuracy {accuracy:.1%}\nlabels right, as given {given:.1%}, after correction {right:.1%}")


def share(mask: Tensor) -> float:
    """Return the share of true entries."""
    return mask.float().mean().item()


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flag, precisions, folder = parser.add_argument, ("32-true", "bf16-mixed", "16-mixed"), Path("lightning-digits")
    flag("--epochs", type=int, default=20, help="of all, those before --resume included (default: %(default)s)")
    flag("--accumulate", type=int, default=1, help="mini-batches to an optimizer step (default: %(default)s)")
    flag("--precision", choices=precisions, default="32-true", help="of the Trainer (default: %(default)s)")
    flag("--accelerator", default="auto", help="of the Trainer, e.g. cpu (default: %(default)s)")
    flag("--devices", type=int, default=1, help="as many processes (default: %(default)s)")
    flag("--batch-size", type=int, default=64, help="of all processes together (default: %(default)s)")
    flag("--save-every", type=int, metavar="STEPS", help="save every n steps (default: every epoch)")
    flag("--output-dir", type=Path, default=folder, help="folder of the checkpoints (default: %(default)s)")
    flag("--resume", action="store_true", help="go on from the last checkpoint in --output-dir")
    flag("--seed", type=int, default=0, help="of initial weights, order and noise (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.resume and not (args.output_dir / "last.ckpt").exists():
        parser.error(f"--resume found no last.ckpt in {args.output_dir}")
    return args


if __name__ == "__main__":
    main()
