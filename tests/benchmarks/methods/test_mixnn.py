"""The library on the harness: what it says of labels is in the results."""

from typing import Any

import pytest

from benchmarks.harness import training
from benchmarks.harness.protocol import Method
from benchmarks.harness.settings import RunSettings
from benchmarks.harness.task import Task


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
