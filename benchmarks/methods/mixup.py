"""mixup: every sample is mixed with a random other one, and so are their labels.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.

x = λ x_a + (1 - λ) x_b, L = λ CE(p(x), y_a) + (1 - λ) CE(p(x), y_b). The b are a permutation of the batch;
λ ~ Beta(α, α) is drawn once a batch.

α = 1 in the official code (facebookresearch/mixup-cifar10). Larger values mix more evenly, and are better under wrong
labels: the paper chooses from 1, 2, 8 and 32 there, and the code of Arazo et al. (ICML 2019) has 32.

Cost: 1 plain training.
"""

import torch
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import MethodFactory, SingleNetwork
from benchmarks.harness.task import Task


class Mixup(SingleNetwork):
    """Cross-entropy of mixed samples with mixed labels.

    Args:
        task: the data, and what to train with.
        alpha: α; the larger, the closer is λ to a half.
    """

    def __init__(self, task: Task, *, alpha: float = 1.0) -> None:
        super().__init__(task)
        self.alpha = alpha

    def step(self, batch: Batch) -> None:
        """Mix the batch with itself, and take a step."""
        batch = batch.to(self.task.device)
        share = torch.distributions.Beta(self.alpha, self.alpha).sample().item()
        other = batch.select(torch.randperm(len(batch)).to(self.task.device))
        logits = self.learner(share * batch.inputs + (1 - share) * other.inputs)
        ours, theirs = (functional.cross_entropy(logits, part.labels) for part in (batch, other))
        self.learner.step(share * ours + (1 - share) * theirs)


METHODS: dict[str, MethodFactory] = {"mixup": Mixup}
