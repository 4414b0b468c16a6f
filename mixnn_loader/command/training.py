"""Trains by a recipe, and reports on the labels."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler

from mixnn_loader import LabelReport, MixNNDataLoader, MixNNLoss

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 5e-4


def train_and_report(
    data: Any,
    scan_data: Any,
    model: nn.Module,
    rows: Sequence[int],
    *,
    epochs: int,
    batch_size: int,
    workers: int,
    device: torch.device,
    seed: int,
    recipe: Callable[[int], dict[str, Any]],
) -> LabelReport:
    """Train once, telling how far it is on standard error, and return the report.

    Args:
        data: the samples, augmented.
        scan_data: the same without augmentation.
        model: is trained in place.
        rows: of the data, which are trained on and reported.
        epochs: how long.
        batch_size: B.
        workers: processes that load the data.
        device: where to train.
        seed: of order and augmentation.
        recipe: one of `mixnn_loader.recipes`, by which to train.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    plain = DataLoader(
        data,
        batch_size=batch_size,
        sampler=SubsetRandomSampler(rows, generator),
        drop_last=len(rows) % batch_size == 1,  # too small a batch for BatchNorm
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=generator,
        pin_memory=device.type == "cuda",
    )
    model.to(device)
    loader = MixNNDataLoader(plain, model, **recipe(epochs), scan_dataset=scan_data, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    steps = epochs * len(loader)
    rise = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rise, (steps - step) / max(steps - rise, 1))
    )
    criterion, started = MixNNLoss(), time.monotonic()
    for epoch in range(epochs):
        model.train()
        for place, (inputs, targets) in enumerate(loader):
            loss = criterion(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            _tell(epoch * len(loader) + place + 1, epochs * len(loader), epoch + 1, epochs, started)
    return loader.label_report()


def _tell(done: int, of: int, epoch: int, epochs: int, started: float) -> None:
    """Write a bar on a terminal, and elsewhere a line an epoch."""
    output, seconds = sys.stderr, time.monotonic() - started
    left = seconds * (of - done) / done
    text = f"epoch {epoch} of {epochs}, {100 * done / of:3.0f} %, {seconds:.0f} s, about {left:.0f} s left"
    if output.isatty():
        bar = "#" * (30 * done // of)
        output.write(f"\r[{bar:30}] {text}   " + ("\n" if done == of else ""))
    elif done * epochs % of < epochs:
        output.write(text + "\n")
    output.flush()
