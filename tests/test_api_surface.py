"""The public surface: a change of it must be made here, too."""

import inspect
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest
import torch

import mixnn_loader
from mixnn_loader import MixNNDataLoader, MixNNLoss

PUBLIC_NAMES = ["MixNNBatch", "MixNNDataLoader", "MixNNLoss", "MixNNTargets"]

REQUIRED = inspect.Parameter.empty

LOADER_KEYWORDS: list[tuple[str, Any]] = [
    ("num_neighbors", 1),
    ("warmup_epochs", 10),
    ("correction_epoch", 60),
    ("momentum", 0.9),
    ("neighbors", "dataset"),
    ("neighbor_pool", None),
    ("search", "auto"),
    ("weighting", "mixture"),
    ("scan", "epoch"),
    ("scan_every", None),
    ("scan_dataset", None),
    ("feature_layer", None),
    ("num_classes", None),
    ("unpack", None),
    ("device", None),
    ("autocast_dtype", None),
    ("state_device", None),
    ("target_dtype", torch.float32),
    ("representation_dtype", torch.float32),
    ("process_group", None),
    ("seed", 0),
    ("progress", False),
]


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any, str]]:
    signature = inspect.signature(function).parameters.values()
    return [(parameter.name, parameter.default, parameter.kind.name) for parameter in signature]


def test_public_names() -> None:
    assert mixnn_loader.__all__ == PUBLIC_NAMES == sorted(PUBLIC_NAMES)


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_names_are_there_and_documented(name: str) -> None:
    assert inspect.getdoc(getattr(mixnn_loader, name))


def test_loader_arguments() -> None:
    assert parameters(MixNNDataLoader) == [
        ("data", REQUIRED, "POSITIONAL_OR_KEYWORD"),
        ("model", REQUIRED, "POSITIONAL_OR_KEYWORD"),
        *((name, default, "KEYWORD_ONLY") for name, default in LOADER_KEYWORDS),
        ("dataloader_kwargs", REQUIRED, "VAR_KEYWORD"),
    ]


def test_loss_arguments() -> None:
    assert parameters(MixNNLoss) == [("reduction", "mean", "POSITIONAL_OR_KEYWORD")]
    assert parameters(MixNNLoss.forward)[1:] == [
        ("logits", REQUIRED, "POSITIONAL_OR_KEYWORD"),
        ("targets", REQUIRED, "POSITIONAL_OR_KEYWORD"),
    ]


def test_package_is_typed() -> None:
    assert (files("mixnn_loader") / "py.typed").is_file()
