"""Bootstrapping: the target is in part the network's own prediction.

Reed et al., "Training Deep Neural Networks on Noisy Labels with Bootstrapping", ICLR 2015 workshop.

L = -Σ_c t_c log p_c. Soft: t = β y + (1 - β) p, β = 0.95. Hard: t = β y + (1 - β) onehot(argmax p), β = 0.8.

We follow the Keras ports that come with the official code of symmetric cross-entropy
(YisenWang/symmetric_cross_entropy_for_noisy_labels) and, of the soft form alone, of forward correction
(giorgiop/loss-correction). In both, gradients flow through the p in a soft target, too.

Cost: 1 plain training.
"""

from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.task import Task


class Bootstrap(LossMethod):
    """Cross-entropy with a mix of the given label and the prediction.

    Args:
        task: the data, and what to train with.
        is_hard: mix with the predicted class, rather than with the predicted probabilities.
        label_weight: β, the share of the given label; None: the published one, 0.8 if hard and 0.95 if not.
    """

    def __init__(self, task: Task, *, is_hard: bool = False, label_weight: float | None = None) -> None:
        super().__init__(task)
        self.is_hard = is_hard
        self.label_weight = (0.8 if is_hard else 0.95) if label_weight is None else label_weight

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy with the mixed targets."""
        log_probabilities = functional.log_softmax(logits, dim=1)
        predicted = self.task.one_hot(logits.argmax(dim=1)) if self.is_hard else log_probabilities.exp()
        targets = self.label_weight * self.task.one_hot(batch.labels) + (1 - self.label_weight) * predicted
        return -(targets * log_probabilities).sum(dim=1).mean()


def hard(task: Task, *, label_weight: float | None = None) -> Bootstrap:
    """Mix with the predicted class."""
    return Bootstrap(task, is_hard=True, label_weight=label_weight)


def soft(task: Task, *, label_weight: float | None = None) -> Bootstrap:
    """Mix with the predicted probabilities."""
    return Bootstrap(task, label_weight=label_weight)


METHODS: dict[str, MethodFactory] = {"bootstrap-soft": soft, "bootstrap-hard": hard}
