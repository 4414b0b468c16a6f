"""The library on the harness: what it says of labels is in the results."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.harness import training
from benchmarks.harness.protocol import Method
from benchmarks.harness.settings import RunSettings
from benchmarks.harness.task import Task
from mixnn_loader.neighbors import ExactSearch


@pytest.mark.parametrize("method", ["mixnn-robust", "mixnn-fast"])
def test_the_rate_that_the_recipe_comes_to_is_close(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    make_method = training.make_method

    def kept(settings: RunSettings, task: Task) -> Method:
        method = make_method(settings, task)
        made.append(method)
        return method

    monkeypatch.setattr(training, "make_method", kept)
    line = training.train_and_measure(RunSettings(method, "digits", epochs=12, rate=0.4))
    labels = line["labels"]
    assert labels["noise_rate"] == pytest.approx(100 * line["actual_noise_rate"], abs=5)
    rates = [epoch["noise_rate"] for epoch in made[0].loader.history if epoch["noise_rate"] is not None]
    assert labels["noise_rate"] == 100 * rates[-1]
    assert labels["right"] > 90
    assert labels["auroc"] > 97


def test_without_a_scan_there_is_no_rate() -> None:
    line = training.train_and_measure(
        RunSettings("mixnn", "digits", epochs=1, num_train=64, options={"warmup_epochs": 1})
    )
    assert "noise_rate" not in line["labels"]


class Seen:
    """Exact search that remembers the rows."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Tensor:
        self.rows.append(representations)
        return ExactSearch().search(representations, k, queries)


def test_features_are_alike_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, labels = torch.Generator().manual_seed(0), torch.arange(200) % 4
    features = torch.nn.functional.one_hot(labels, 5) + torch.randn(200, 5, generator=generator) / 4
    torch.save({"train": features, "labels": labels, "test": features, "test_labels": labels}, tmp_path / "f.pt")
    search, make_method = Seen(), training.make_method

    def searched(settings: RunSettings, task: Task) -> Method:
        return make_method(replace(settings, options={"search": search}), task)

    monkeypatch.setattr(training, "make_method", searched)
    training.train_and_measure(RunSettings("mixnn-features", "features", epochs=2, rate=0.4), tmp_path / "f.pt")
    (seen,) = search.rows
    directions = torch.nn.functional.normalize(features, dim=1)
    torch.testing.assert_close(seen.sort(dim=0).values, directions.sort(dim=0).values)
