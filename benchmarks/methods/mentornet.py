"""MentorNet with the two curricula that need no clean data: self-paced, and the predefined mixture.

Jiang et al., "MentorNet: Learning Data-Driven Curriculum for Very Deep Neural Networks on Corrupted Labels", ICML 2018.
L = mean of v_i l_i over the batch, l the cross-entropy and v a weight. A threshold follows the p-quantile of the losses
of a batch, t <- m t + (1 - m) quantile_p(l), from t = 0 and with m = 0.5; with d = l - t

    self-paced:   v = 1 where d <= 0, else 0,
    predefined:   v = 1 in the first 19 % of training, self-paced up to 90 %, then clip(1 - d / s, 0, 1), s = 1.

Of a batch, the predefined form uses a random half in the first 17 % of training, and 95 % of it after that; the
others get v = 0 (both as in the official code and commands). p = 0.7 for self-paced; for predefined 0.75 at 20 % and
40 % noise and 0.5 at 80 %; here the change is at 60 %. The commands spell the option of p in another way than
the program has it, so that the published figures may be of p = 0.7.

The official code gives v by a small network that was trained to imitate these formulas; here are the formulas. It
scales weight decay by the mean of v, which an optimizer of PyTorch cannot do; here the decay is constant. The
data-driven curriculum learns from clean labels and is no rival of methods that have none.

Cost: 1 plain training.
"""

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.task import Task

ALL_UNTIL, SELF_PACED_UNTIL = 0.19, 0.9
DROP_HALF_UNTIL, DROP_FIRST, DROP_LATER = 0.17, 0.5, 0.05


class MentorNet(LossMethod):
    """The self-paced curriculum.

    Args:
        task: the data, and what to train with.
        quantile: p.
        decay: m.
    """

    threshold: Tensor
    losses: Tensor

    def __init__(self, task: Task, *, quantile: float = 0.7, decay: float = 0.5) -> None:
        super().__init__(task)
        self.quantile, self.decay = quantile, decay
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("losses", torch.zeros(task.num_samples))

    @property
    def progress(self) -> float:
        """The share of training that is done, in whole percent as in the official code."""
        return int(100 * self.epoch / self.num_epochs) / 100

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean of the weighted cross-entropies."""
        losses = functional.cross_entropy(logits, batch.labels, reduction="none")
        known = losses.detach()
        self.losses[batch.indices] = known
        quantile = known.quantile(self.quantile, interpolation="nearest")
        self.threshold.mul_(self.decay).add_((1 - self.decay) * quantile)
        return (self.weights(known - self.threshold) * losses).mean()

    def weights(self, excess: Tensor) -> Tensor:
        """Return v (B,) for losses that exceed the threshold by so much (B,)."""
        return (excess <= 0).float()

    def clean_score(self) -> Tensor:
        """Return minus the loss of each sample at its last visit."""
        return -self.losses


class PredefinedMentorNet(MentorNet):
    """The predefined curriculum.

    Args:
        task: the data, and what to train with.
        quantile: p; None: by the nominal noise rate.
        decay: m.
        slope: s, the excess at which the weight of a sample has fallen to 0.
    """

    def __init__(self, task: Task, *, quantile: float | None = None, decay: float = 0.5, slope: float = 1.0) -> None:
        chosen = (0.75 if task.noise_rate <= 0.6 else 0.5) if quantile is None else quantile
        super().__init__(task, quantile=chosen, decay=decay)
        self.slope = slope

    def weights(self, excess: Tensor) -> Tensor:
        """Return v (B,), which goes by the share of training that is done."""
        if self.progress < ALL_UNTIL:
            weights = torch.ones_like(excess)
        elif self.progress < SELF_PACED_UNTIL:
            weights = super().weights(excess)
        else:
            weights = (1 - excess / self.slope).clamp(0, 1)
        dropped = DROP_FIRST if self.progress < DROP_HALF_UNTIL else DROP_LATER
        used = torch.randperm(len(excess), device=excess.device)[: max(1, int(len(excess) * (1 - dropped)))]
        return weights * torch.zeros_like(excess).index_fill_(0, used, 1.0)


METHODS: dict[str, MethodFactory] = {"mentornet-spl": MentorNet, "mentornet-pd": PredefinedMentorNet}
