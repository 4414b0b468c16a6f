"""The public surface: a change of it must be made here, too."""

import importlib
import inspect
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import pytest
import torch

import mixnn_loader
from mixnn_loader import MixNNDataLoader, MixNNLoss

PUBLIC_NAMES = [
    "CorrectedLabels",
    "LabelReport",
    "MixNNBatch",
    "MixNNDataLoader",
    "MixNNLoss",
    "MixNNTargets",
    "__version__",
]

MODULES = {
    "mixnn_loader.datasets": [
        *("ANIMAL10N_CLASSES", "CIFAR10N_LABEL_SETS", "CIFAR100N_LABEL_SETS", "CLOTHING1M_CLASSES", "FOOD101N_CLASSES"),
        *("WEBVISION_MINI_CLASSES", "ClassBalancedBatchSampler", "ImageList", "ImageTransform", "InMemoryDataset"),
        *("animal10n", "channel_statistics", "cifar10", "cifar10n", "cifar100", "cifar100n", "clothing1m", "digits"),
        *("fashion_mnist", "food101", "food101n", "food101n_verification", "human_labels", "ilsvrc_val"),
        *("image_folder", "in_memory_folder", "mnist", "read_images", "webvision_mini"),
    ],
    "mixnn_loader.functional": [
        *("AgreementCredibility", "Credibility", "Estimate", "Evidence", "MixtureCredibility"),
        *("NeighborSource", "Posterior", "VoteCredibility", "Weighting"),
        *("clean_posterior", "label_posterior", "mix", "mix_targets", "moving_average", "nearest_neighbors"),
        *("posterior_weights", "vote_shares"),
    ],
    "mixnn_loader.neighbors": [
        *("Candidates", "CellReport", "CellSearch", "ExactSearch", "HNSWSearch", "NearestInBatch", "NearestInDataset"),
        *("NeighborSearch", "NeighborSource", "Pairs", "RandomInBatch", "RandomInDataset", "nearest_in_batch"),
        *("random_in_batch", "resolve_search", "search_all"),
    ],
    "mixnn_loader.noise": [
        *("Labels", "NoisyLabels", "asymmetric", "asymmetric_matrix", "from_matrix", "pairflip", "pairflip_matrix"),
        *("symmetric", "symmetric_matrix", "transition_matrix"),
    ],
    "mixnn_loader.plots": [
        "plot_accuracy",
        "plot_confusion",
        "plot_history",
        "plot_loss_distribution",
        "plot_loss_mixture",
        "plot_neighbors",
        "plot_representations",
    ],
}
"""The public modules and their names."""

REQUIRED = inspect.Parameter.empty

LOADER_KEYWORDS: list[tuple[str, Any]] = [
    ("epochs", None),
    ("num_neighbors", 1),
    ("warmup_epochs", "auto"),
    ("correction_epoch", "auto"),
    ("epoch_length", None),
    ("momentum", 0.9),
    ("early_learning", 0.0),
    ("prediction_momentum", 0.7),
    ("correct_by", "prediction"),
    ("correct_neighbors", True),
    ("neighbors", "dataset"),
    ("neighbor_pool", None),
    ("search", "auto"),
    ("weighting", "mixture"),
    ("credibility", "mixture"),
    ("scan", "epoch"),
    ("scan_every", None),
    ("scan_dataset", None),
    ("members", None),
    ("prepare", None),
    ("mix_layer", None),
    ("mix", None),
    ("feature_layer", None),
    ("num_classes", None),
    ("unpack", None),
    ("extras", False),
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


@pytest.mark.parametrize("module", MODULES)
def test_public_names_of_modules(module: str) -> None:
    assert importlib.import_module(module).__all__ == MODULES[module]


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in {"mixnn_loader": PUBLIC_NAMES, **MODULES}.items() for name in names],
)
def test_public_names_are_there_and_documented(module: str, name: str) -> None:
    thing = getattr(importlib.import_module(module), name)
    if isinstance(thing, type) or inspect.isfunction(thing):
        assert inspect.getdoc(thing)


def test_the_installed_version_is_that_of_the_package() -> None:
    assert mixnn_loader.__version__ == version("mixnn_loader")


def test_loader_arguments() -> None:
    assert parameters(MixNNDataLoader) == [
        ("data", REQUIRED, "POSITIONAL_OR_KEYWORD"),
        ("model", REQUIRED, "POSITIONAL_OR_KEYWORD"),
        *((name, default, "KEYWORD_ONLY") for name, default in LOADER_KEYWORDS),
        ("dataloader_kwargs", REQUIRED, "VAR_KEYWORD"),
    ]


def test_loss_arguments() -> None:
    assert parameters(MixNNLoss) == [
        ("reduction", "mean", "POSITIONAL_OR_KEYWORD"),
        ("weight", None, "KEYWORD_ONLY"),
        ("label_smoothing", 0.0, "KEYWORD_ONLY"),
        ("ignore_index", -100, "KEYWORD_ONLY"),
        ("base", None, "KEYWORD_ONLY"),
    ]
    assert parameters(MixNNLoss.forward)[1:] == [
        ("logits", REQUIRED, "POSITIONAL_OR_KEYWORD"),
        ("targets", REQUIRED, "POSITIONAL_OR_KEYWORD"),
    ]


def test_package_is_typed() -> None:
    assert (files("mixnn_loader") / "py.typed").is_file()
