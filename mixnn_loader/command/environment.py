"""What a bug report needs: versions, devices, and what is installed."""

import argparse
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import torch

from mixnn_loader._utils.installed import own_version

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "nmslib",
    "pomegranate",
    "matplotlib",
    "jinja2",
    "timm",
    "scikit-learn",
    "tqdm",
    "pandas",
    "accelerate",
    "lightning",
    "transformers",
    "datasets",
    "pytorch-ignite",
    "fastai",
    "skorch",
)
"""What it needs, what its extras need, and frameworks that it is used in."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the environment."""
    argparse.ArgumentParser(
        prog="python -m mixnn_loader",
        description="Tell versions and devices, for a bug report. Reports on labels are made by mixnn-labels.",
    ).parse_args(argv)
    print(environment())


def environment() -> str:
    """Return a line for each version and device."""
    lines = [f"mixnn_loader {own_version()}", f"Python {platform.python_version()} on {platform.platform()}"]
    lines += [f"{name} {_version(name)}" for name in PACKAGES]
    lines.append(f"{os.cpu_count()} processor cores, {torch.get_num_threads()} threads")
    return "\n".join([*lines, *(_accelerators() or ["no accelerator"])])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "is not installed"


def _accelerators() -> list[str]:
    found = [f"cuda:{place}: {torch.cuda.get_device_name(place)}" for place in range(torch.cuda.device_count())]
    if torch.cuda.is_available():
        found.append(f"CUDA {torch.version.cuda}")
    if torch.backends.mps.is_available():
        found.append("mps")
    return found
