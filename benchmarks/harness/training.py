"""One run, from its settings to its measurements."""

import dataclasses
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.checkpoint import Checkpoint
from benchmarks.harness.data import Data, load
from benchmarks.harness.data.relabeled import Relabeled
from benchmarks.harness.machine import describe_machine, peak_memory
from benchmarks.harness.noise import corrupt, expected_rate
from benchmarks.harness.protocol import Method
from benchmarks.harness.recipes import recipe_for
from benchmarks.harness.settings import RunSettings
from benchmarks.harness.task import Task
from benchmarks.harness.watch import Watch, summary
from benchmarks.methods import all_methods


def train_and_measure(
    settings: RunSettings,
    data_dir: Path | None = None,
    checkpoint: Path | None = None,
    device: str = "cpu",
    samples: Path | None = None,
) -> dict[str, Any]:
    """Train once and measure.

    Args:
        settings: what to run.
        data_dir: folder that holds the dataset.
        checkpoint: file that keeps the state after every epoch; None: none is kept. It stays after the last one, for
            the caller to remove once the line is in a file.
        device: where to train.
        samples: file for what figures need of single samples, see `benchmarks.harness.samples`; written where the
            settings say ``watch_training`` and true labels are known.

    Returns:
        The run's line in a results file, primitives; see `benchmarks/README.md`.

    Raises:
        ValueError: a name or a value in the settings is unknown.
    """
    recipe = recipe_for(settings)
    data = load(settings.dataset, data_dir, recipe)
    given = given_labels(settings, data)
    actual_rate = (given != data.labels).double().mean().item() if data.are_true else None
    wrong = expected_share(settings, data)
    task = Task(
        Relabeled(data.train, given),
        Relabeled(data.scan, given),
        given,
        data.num_classes,
        data.shape,
        recipe,
        settings.rate if wrong is None or settings.noise != "given" else wrong,
        settings.seed,
        torch.device(device),
        wrong,
    )
    seed_everything(settings.seed, 0)
    method = make_method(settings, task)
    watch = Watch(method, task, data, given, predicts_training_data=settings.watch_training)
    epochs = train(method, task, watch, Checkpoint(checkpoint))
    line = {
        "key": settings.key,
        "settings": settings.as_dict(),
        "machine": describe_machine() | {"device": device},
        "recipe": dataclasses.asdict(recipe),
        "schedule": method.schedule,
        "num_train": task.num_samples,
        "actual_noise_rate": actual_rate,
        "seconds": sum(epoch["seconds"] for epoch in epochs),
        "peak_memory_mib": peak_memory(torch.device(device)),
        "cost": {
            "forward": task.meter.forward,
            "backward": task.meter.backward,
            "plain_trainings": task.meter.units / (3 * task.epoch_size * task.num_epochs),
        },
        "figures": summary(epochs),
        "labels": epochs[-1].get("labels", {}),
        "epochs": epochs,
    }
    if samples is not None and watch.samples is not None:
        watch.samples.write(samples)
    return line


def expected_share(settings: RunSettings, data: Data) -> float | None:
    """Return the share of wrong labels that the kind of noise makes, of labels that come with the data the true one.

    None where nobody knows.
    """
    if settings.noise != "given":
        noisy = corrupt(data.labels, settings.noise, settings.rate, data.num_classes, settings.seed)
        return expected_rate(data.labels, noisy)
    if data.given is None or not data.are_true:
        return None
    return (data.given != data.labels).double().mean().item()


def given_labels(settings: RunSettings, data: Data) -> Tensor:
    """Return the labels to train on, (N,): corrupted true ones, or noisy ones that come with the data.

    Raises:
        ValueError: the data have no noisy labels of their own, or no true ones to be corrupted.
    """
    if settings.noise == "given":
        if data.given is None:
            raise ValueError(f"{settings.dataset} comes with no noisy labels; choose a kind of noise")
        return data.given
    if not data.are_true:
        raise ValueError(f"the labels of {settings.dataset} are noisy as they are; pass --noise given")
    return corrupt(data.labels, settings.noise, settings.rate, data.num_classes, settings.seed).labels


def make_method(settings: RunSettings, task: Task) -> Method:
    """Build a method by its name.

    Raises:
        ValueError: the name is unknown, or the method has no such option.
    """
    methods = all_methods()
    if settings.method not in methods:
        raise ValueError(f"method must be one of {', '.join(methods)}, got {settings.method!r}")
    try:
        return methods[settings.method](task, **settings.options).to(task.device)
    except TypeError as error:
        if not any(words in str(error) for words in ("unexpected keyword argument", "unknown argument")):
            raise
        raise ValueError(f"{settings.method}: {error}") from error


def train(method: Method, task: Task, watch: Watch, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Train for all epochs, from where the checkpoint is; return the figures of every epoch."""
    progress = checkpoint.load(method) or {"epochs": [], "forward": 0, "backward": 0}
    epochs: list[dict[str, Any]] = progress["epochs"]
    task.meter.forward, task.meter.backward = progress["forward"], progress["backward"]
    if watch.samples is not None:
        watch.samples.load(progress.get("samples", {}))
    for epoch in range(len(epochs), method.num_epochs):
        seed_everything(task.seed, 1 + epoch)
        task.begin_epoch(epoch)
        method.train()
        start = time.perf_counter()
        method.begin_epoch(epoch)
        for batch in method.batches():
            watch.observe(batch)
            method.step(batch)
        method.end_epoch(epoch)
        if task.device.type == "cuda":
            torch.cuda.synchronize(task.device)  # what has been asked for is not what has been done
        seconds = time.perf_counter() - start
        with task.meter.paused():
            epochs.append({"epoch": epoch, "seconds": seconds, **watch.figures(epoch)})
        progress |= {"forward": task.meter.forward, "backward": task.meter.backward}
        if watch.samples is not None:
            progress["samples"] = watch.samples.state()
        checkpoint.save(method, progress)
    return epochs


def seed_everything(seed: int, part: int) -> None:
    """Seed the global generators for a part of a run: it draws the same whether or not it was resumed there."""
    state = int(np.random.SeedSequence([seed, part]).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)
