"""MixNN: as the paper has it, with neighbors in the batch, and by the library's recipe.

Lu & He, "MixNN: Combating Noisy Labels in Deep Learning by Mixing with Nearest Neighbours", 2021: K = 1, α = 0.9,
W = 10 and E_s = 60 of 300 epochs on CIFAR-10 (W = 30 on CIFAR-100). W and E_s are those of the recipe here, W the same
for all methods that have a warm-up. Where the released code differs from the paper this is the paper; the other is in
`benchmarks.methods.mixnn_released`.

Cost: the paper's form 1.67 plain trainings, a scan and the predictions of step 4a a sample and epoch; with a running
scan 1.33.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.protocol import MethodFactory, SingleNetwork
from benchmarks.harness.task import Task
from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss, recipes


class MixNN(SingleNetwork):
    """The library itself, with any of its arguments.

    Args:
        task: the data, and what to train with.
        **arguments: of `MixNNDataLoader`, in place of the paper's.
    """

    def __init__(self, task: Task, **arguments: Any) -> None:
        super().__init__(task)
        defaults: dict[str, Any] = {
            "warmup_epochs": task.warmup_epochs,
            "correction_epoch": task.correction_epoch,
            "num_classes": task.num_classes,
            "scan_dataset": task.scan_data,
            "autocast_dtype": torch.bfloat16 if task.recipe.bfloat16 else None,
            "seed": task.seed,
        }
        self.loader = MixNNDataLoader(task.plain_loader(), self.learner.network, **defaults | arguments)
        self.criterion = MixNNLoss()

    @property
    def schedule(self) -> dict[str, int | None]:
        """The first epochs after warm-up and of correction: the loader's, which may end warm-up by what it sees."""
        phases = {record["epoch"]: record["phase"] for record in self.loader.history}
        return {
            "warmup_epochs": min((epoch for epoch, phase in phases.items() if phase != "warm-up"), default=None),
            "correction_epoch": min((epoch for epoch, phase in phases.items() if phase == "correction"), default=None),
        }

    def batches(self) -> Iterable[MixNNBatch]:
        """Return the mixed batches."""
        return self.loader

    def step(self, batch: MixNNBatch) -> None:
        """Take a step down the gradient of Eq. 7."""
        self.learner.step(self.criterion(self.learner(batch.inputs), batch))

    def clean_score(self) -> Tensor | None:
        """Return P of Eq. 9, once there is one."""
        probability = self.loader.clean_probability
        return None if probability.isnan().all() else probability.nan_to_num(nan=0.0)

    def corrected_labels(self) -> Tensor:
        """Return the largest entry of each soft target (Eq. 12)."""
        return self.loader.soft_targets.argmax(dim=1)

    def estimated_noise_rate(self) -> float | None:
        """Return the mean of 1 - P; None before there is a P, or where the loader calls it undecided."""
        rates = [epoch["noise_rate"] for epoch in self.loader.history if epoch["noise_rate"] is not None]
        return rates[-1] if rates else None

    def get_extra_state(self) -> dict[str, Any]:
        """Return the loader's state."""
        return self.loader.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` returned."""
        self.loader.load_state_dict(state)


def in_batch(task: Task, **arguments: Any) -> MixNN:
    """Train with the nearest neighbor of the batch, and no scan but one."""
    return MixNN(task, **{"neighbors": "batch", "scan": "running"} | arguments)


def robust(task: Task, **arguments: Any) -> MixNN:
    """Train by the recipe of that name."""
    return MixNN(task, **recipes.robust(task.num_epochs) | arguments)


def fast(task: Task, **arguments: Any) -> MixNN:
    """Train by the recipe of that name."""
    return MixNN(task, **recipes.fast(task.num_epochs) | arguments)


def features(task: Task, **arguments: Any) -> MixNN:
    """Train by the recipe of that name, for features of a frozen network."""
    return MixNN(task, **recipes.features(task.num_epochs) | arguments)


METHODS: dict[str, MethodFactory] = {
    "mixnn": MixNN,
    "mixnn-batch": in_batch,
    "mixnn-robust": robust,
    "mixnn-fast": fast,
    "mixnn-features": features,
}
