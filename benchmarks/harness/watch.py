"""What the harness measures of a method after every epoch, with the true labels that the method never sees."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.harness.data import Data
from benchmarks.harness.metrics import (
    Figures,
    correction_figures,
    memorization_figures,
    probabilities_of,
    ranking_figures,
    test_figures,
)
from benchmarks.harness.mixes import MixesSeen
from benchmarks.harness.protocol import Method
from benchmarks.harness.samples import SamplesKept
from benchmarks.harness.task import Task

AVERAGED_EPOCHS = 10
"""The figures of so many epochs at the end are averaged."""


class Watch:
    """Measures a method.

    Args:
        method: what is trained.
        task: what it is given.
        data: the dataset, with true labels.
        given: (N,) labels that it is trained on.
        predicts_training_data: predict the training samples after every epoch; else only after the last.

    Attributes:
        samples: what is kept of single samples; None where the training data are not predicted in every epoch, or
            their true labels are not known.
    """

    def __init__(
        self, method: Method, task: Task, data: Data, given: Tensor, *, predicts_training_data: bool = False
    ) -> None:
        self._method, self._task, self._data, self._given = method, task, data, given
        self._predicts_training_data = predicts_training_data
        self._mixes = MixesSeen(data.labels.to(task.device), task.labels) if data.are_true else None
        keeps = predicts_training_data and data.are_true
        self.samples = SamplesKept(method, task, data, given) if keeps else None

    def observe(self, batch: Any) -> None:
        """Look at a batch of the method's."""
        if self._mixes is not None:
            self._mixes.observe(batch)

    @torch.no_grad()
    def figures(self, epoch: int) -> dict[str, Any]:
        """Measure after an epoch, counted from 0."""
        self._method.eval()
        found: dict[str, Any] = {"test": self._test(self._data.test)}
        if self._data.more_tests:
            found["more_tests"] = {name: self._test(test) for name, test in self._data.more_tests.items()}
        if not self._data.are_true:
            return found
        if self._mixes is not None:
            found["mixes"] = self._mixes.figures()
        if self._predicts_training_data or epoch == self._method.num_epochs - 1:
            probabilities = self._probabilities(self._data.scan)
            found["training"] = memorization_figures(probabilities, self._given, self._data.labels)
            found["labels"] = self._label_figures()
            if self.samples is not None:
                self.samples.look(epoch, probabilities)
        return found

    def _test(self, test: Any) -> Figures:
        return test_figures(self._probabilities(test), torch.as_tensor(test.targets, dtype=torch.int64))

    def _probabilities(self, dataset: Dataset[Any]) -> Tensor:
        return probabilities_of(self._method.predict, dataset, self._task.device, self._task.recipe.workers)

    def _label_figures(self) -> Figures:
        """Measure how well wrong labels are found and mended."""
        score, corrected = self._method.clean_score(), self._method.corrected_labels()
        true, given = self._data.labels, self._given
        ranked = {} if score is None else ranking_figures(score.cpu(), given != true)
        mended = {} if corrected is None else correction_figures(corrected.cpu(), given, true)
        rate = self._method.estimated_noise_rate()
        return ranked | mended | ({} if rate is None else {"noise_rate": 100 * rate})


def summary(epochs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summarize the test figures of a run.

    Returns:
        Those of the ``last`` epoch, their ``mean_of_last_10``, and those of the epoch with the best accuracy, an
        ``oracle``: which one it is nobody can know without clean labels. The same of every further test set, by its
        name.
    """
    names = epochs[-1].get("more_tests", {})
    further = {name: _summary([epoch["more_tests"][name] for epoch in epochs]) for name in names}
    return _summary([epoch["test"] for epoch in epochs]) | further


def _summary(tests: Sequence[Mapping[str, float]]) -> dict[str, Figures]:
    at_end = tests[-AVERAGED_EPOCHS:]
    best: Mapping[str, float] = max(tests, key=lambda figures: figures["accuracy"])
    return {
        "last": dict(tests[-1]),
        "mean_of_last_10": {name: fmean(figures[name] for figures in at_end) for name in tests[-1]},
        "oracle": dict(best),
    }
