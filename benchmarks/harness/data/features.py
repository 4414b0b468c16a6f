"""Representations of a frozen backbone, as practitioners do it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.data.dataset import Data, required, split_rows
from benchmarks.harness.recipes import Recipe
from mixnn_loader.datasets.in_memory import InMemoryDataset

PARTS = ("train", "labels", "test", "test_labels")


def features(root: Path | None, recipe: Recipe) -> Data:
    """Representations of a frozen backbone, from a file that `torch.load` reads.

    A dict of ``train`` (N, d) and ``test`` (M, d) floating-point, ``labels`` (N,) and ``test_labels`` (M,) true class
    indices and, if there are any, ``given`` (N,) noisy labels that come with the data.

    Raises:
        ValueError: the file is not like that.
    """
    parts = _read(required(root))
    inputs, labels, given = parts["train"], parts["labels"], parts.get("given")
    test = InMemoryDataset(parts["test"], parts["test_labels"])
    # Of the whole file, also where num_train leaves some classes out.
    num_classes = 1 + max(int(part.max()) for name, part in parts.items() if part.dim() == 1)
    if recipe.num_train is not None or recipe.held_out:
        rows, held_out = split_rows(labels, recipe)
        if recipe.held_out:
            test = InMemoryDataset(inputs[held_out], labels[held_out])
        inputs, labels, given = inputs[rows], labels[rows], None if given is None else given[rows]
    samples = InMemoryDataset(inputs, labels)
    return Data(samples, samples, test, labels, num_classes, tuple(inputs.shape[1:]), given=given)


def _read(file: Path) -> dict[str, Tensor]:
    """Read a file, features as float32 and labels as int64."""
    if file.is_dir():
        raise ValueError(f"features are in a file, such as benchmarks.extract_features writes, and {file} is a folder")
    try:
        found: Any = torch.load(file, weights_only=True, map_location="cpu")
    except (MemoryError, OSError):
        raise
    except Exception as error:
        # A file that is no archive, one that is cut off, and one with other objects fail in as many ways.
        raise ValueError(f"{file} is not a file of torch.save with tensors alone: {error}") from error
    parts = found if isinstance(found, dict) else {}
    missing = [name for name in PARTS if not isinstance(parts.get(name), Tensor)]
    if missing:
        raise ValueError(f"{file} must hold a dict of tensors with {', '.join(PARTS)}; it has no {', '.join(missing)}")
    read = {name: parts[name] for name in (*PARTS, "given") if isinstance(parts.get(name), Tensor)}
    for name, part in read.items():
        wanted = 2 if name in ("train", "test") else 1
        if part.dim() != wanted or len(part) == 0:
            shape = "(N, d)" if wanted == 2 else "(N,)"
            raise ValueError(f"{file}: {name} must be {shape}, N at least 1, got {tuple(part.shape)}")
        if wanted == 1 and (part.is_floating_point() or part.is_complex() or int(part.min()) < 0):
            raise ValueError(f"{file}: {name} must be class indices, integers of at least 0")
    if read["train"].shape[1] != read["test"].shape[1]:
        widths = f"{read['train'].shape[1]} and {read['test'].shape[1]}"
        raise ValueError(f"{file}: train and test must have the same number of features, got {widths}")
    for inputs, labels in (("train", "labels"), ("test", "test_labels"), ("train", "given")):
        if labels in read and len(read[inputs]) != len(read[labels]):
            lengths = f"{len(read[inputs])} and {len(read[labels])}"
            raise ValueError(f"{file}: {inputs} and {labels} must have the same length, got {lengths}")
    return {name: part.float() if part.dim() == 2 else part.long() for name, part in read.items()}
