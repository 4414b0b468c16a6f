"""Plain training: cross-entropy with the given labels, and with smoothed ones.

Label smoothing: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016: (1 - ε) of the
target on the given label and ε spread over all classes, ε = 0.1. Lukasik et al., "Does Label Smoothing Mitigate Label
Noise?", ICML 2020, finds it useful under label noise.

Cost: 1 plain training.
"""

from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.task import Task


class CrossEntropy(LossMethod):
    """L = -log p_y.

    Args:
        task: the data, and what to train with.
        smoothing: ε, the share of the target that is spread over all classes.
    """

    def __init__(self, task: Task, *, smoothing: float = 0.0) -> None:
        super().__init__(task)
        self.smoothing = smoothing

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy."""
        return functional.cross_entropy(logits, batch.labels, label_smoothing=self.smoothing)


def label_smoothing(task: Task, *, smoothing: float = 0.1) -> CrossEntropy:
    """Train on smoothed labels."""
    return CrossEntropy(task, smoothing=smoothing)


METHODS: dict[str, MethodFactory] = {"ce": CrossEntropy, "label-smoothing": label_smoothing}
