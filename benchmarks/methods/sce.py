"""Symmetric cross-entropy: cross-entropy, and cross-entropy with label and prediction exchanged.

Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels", ICCV 2019.

L = α CE + β RCE, RCE = -Σ_c p_c log y_c with log 0 := A, thus RCE = -A (1 - p_y).
CIFAR-10: α = 0.1, β = 1. CIFAR-100: α = 6, β = 0.1. MNIST: α = 0.01, β = 1; a method knows the number of classes, but
not the dataset: this has to be asked for.

The official code (YisenWang/symmetric_cross_entropy_for_noisy_labels) cuts y off at 1e-4, so that A = log 1e-4 = -9.21.
We follow it. The paper sets A = -4 on every dataset.

Cost: 1 plain training.
"""

import math

from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.task import Task
from benchmarks.methods.gce import label_probability


class SymmetricCrossEntropy(LossMethod):
    """L = α CE + β RCE.

    Args:
        task: the data, and what to train with.
        alpha: weight of cross-entropy; None: 0.1 for up to 10 classes, else 6.
        beta: weight of reverse cross-entropy; None: 1 for up to 10 classes, else 0.1.
        log_zero: A, what the logarithm of 0 is taken for.
    """

    def __init__(
        self,
        task: Task,
        *,
        alpha: float | None = None,
        beta: float | None = None,
        log_zero: float = math.log(1e-4),
    ) -> None:
        super().__init__(task)
        has_many = task.num_classes > 10
        self.alpha = (6.0 if has_many else 0.1) if alpha is None else alpha
        self.beta = (0.1 if has_many else 1.0) if beta is None else beta
        self.log_zero = log_zero

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the weighted mean of both."""
        reverse = -self.log_zero * (1 - label_probability(logits, batch.labels))
        return self.alpha * functional.cross_entropy(logits, batch.labels) + self.beta * reverse.mean()


METHODS: dict[str, MethodFactory] = {"sce": SymmetricCrossEntropy}
