"""What an epoch yields: mixed inputs, and everything that a loss or a curious user needs to know of them."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class MixNNTargets:
    """The targets of one batch of B samples, each mixed with its K neighbors, over C classes.

    During warm-up K is 0: one-hot targets of weight one.

    Attributes:
        soft_targets: (B, K+1, C) float, t of the sample itself (column 0) and of its neighbors.
        weights: (B, K+1) float, λ of the sample (column 0) and β of its neighbors; a row sums to one.
        labels: (B,) int64, the labels as given by the dataset.
        indices: (B,) int64, the samples' rows in the dataset.
        neighbors: (B, K) int64, the neighbors' rows in the dataset.
    """

    soft_targets: Tensor
    weights: Tensor
    labels: Tensor
    indices: Tensor
    neighbors: Tensor

    @property
    def mixed(self) -> Tensor:
        """The mixed target ỹ = λ t_i + Σ β t_k, (B, C) (Eq. 5 with t for y)."""
        return (self.weights.unsqueeze(-1) * self.soft_targets).sum(dim=1)

    def __len__(self) -> int:
        """Return the number of samples in the batch."""
        return self.labels.shape[0]

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> "MixNNTargets":
        """Return the targets on ``device``; as `torch.Tensor.to`, it copies only what is not there yet."""
        return replace(
            self,
            **{f.name: getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)},
        )

    def cuda(self, device: torch.device | str | int | None = None, non_blocking: bool = False) -> "MixNNTargets":
        """Return the targets on a CUDA device, by default the current one."""
        return self.to("cuda" if device is None else device, non_blocking)

    def pin_memory(self) -> "MixNNTargets":
        """Return the targets in page-locked memory."""
        return replace(self, **{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})

    @classmethod
    def __torch_function__(cls, function: Callable[..., Any], *_: Any) -> NoReturn:
        """Refuse to stand for a tensor, as in the loss function of a plain loop.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"{function.__name__} got MixNNTargets where it takes a tensor; use MixNNLoss for the loss, or one of "
            "their tensors: targets.labels, as given, or targets.mixed, probabilities"
        )


class MixNNBatch(NamedTuple):
    """One batch: ``for inputs, targets in loader`` or ``for batch in loader``.

    Attributes:
        inputs: the mixed inputs x̃ (B, ...) (Eq. 4), a tensor or the nest of tensors that the dataset gives.
        targets: the matching `MixNNTargets`.
    """

    inputs: Any
    targets: MixNNTargets
