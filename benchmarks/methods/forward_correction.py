"""Forward correction: estimate how labels are corrupted, and put the corruption behind the network's predictions.

Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach", CVPR 2017.

L = -log Σ_c p_c T_cy, T_ij the probability that class i is labeled j. A network trained with cross-entropy gives T:
row i is its prediction for the sample that it is surest to be of class i. Before, the 3 % that it is surest of are
left out as outliers, but not with 100 classes. Then a new network is trained with T fixed.

We follow the official code (giorgiop/loss-correction): a tenth of the samples is held out, and T is taken from the
epoch with the lowest loss on them. Later ones memorize the noise, so that T would be the identity. In the code, to
leave out outliers also sets some entries of T to 0. This looks like a mistake, and is not done here. The second
training is on all samples and lasts to the end, as with all methods here.

Cost: 2 plain trainings; forward passes over the held-out samples after every epoch of the first, and one over all.
"""

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch, Batches
from benchmarks.harness.learner import Learner
from benchmarks.harness.protocol import Method, MethodFactory
from benchmarks.harness.task import Task

TINY = 1e-7


class ForwardCorrection(Method):
    """Train twice: to estimate T, and with it.

    Args:
        task: the data, and what to train with.
        outlier_share: share of the samples that are left out before the surest one of a class is sought; None: 0.03
            for up to 10 classes, else 0.
        held_out_share: share of the samples by which the epoch is chosen from which T is taken.

    Attributes:
        transition: (C, C) T; NaN during the first training.
        lowest_loss: () on the held-out samples so far.
        best: the network that had it.
    """

    transition: Tensor
    lowest_loss: Tensor

    def __init__(self, task: Task, *, outlier_share: float | None = None, held_out_share: float = 0.1) -> None:
        super().__init__(task)
        self.num_epochs = 2 * task.num_epochs
        self.outlier_share = (0.0 if task.num_classes > 10 else 0.03) if outlier_share is None else outlier_share
        self.first, self.best, self.learner = task.learner(), task.learner(), task.learner()
        self.register_buffer("lowest_loss", torch.tensor(torch.inf))
        self.register_buffer("transition", torch.full((task.num_classes, task.num_classes), torch.nan))
        order = torch.randperm(task.num_samples, generator=torch.Generator().manual_seed(task.seed))
        self._held_out, others = order.tensor_split([round(held_out_share * task.num_samples)])
        self._first_batches, self._batches = task.batches(subset=others), task.batches()

    @property
    def is_estimated(self) -> bool:
        """Whether the second training has begun."""
        return not bool(self.transition.isnan().any())

    def begin_epoch(self, epoch: int) -> None:
        """Estimate T, where the second training begins."""
        if epoch == self.task.num_epochs:
            probabilities = torch.softmax(self.task.scan(self.best).logits, dim=1)
            self.transition.copy_(estimate_transition(probabilities, self.outlier_share))

    def batches(self) -> Batches:
        """Return all samples, in the first training those that are not held out."""
        return self._batches if self.is_estimated else self._first_batches

    def step(self, batch: Batch) -> None:
        """Take a step down the gradient of cross-entropy, in the second training behind T."""
        batch = batch.to(self.task.device)
        learner = self._current
        logits = learner(batch.inputs)
        if learner is self.learner:
            loss = forward_loss(logits, batch.labels, self.transition)
        else:
            loss = functional.cross_entropy(logits, batch.labels)
        learner.step(loss)

    def end_epoch(self, epoch: int) -> None:
        """Lower the learning rate; in the first training, see how the network does."""
        del epoch
        if not self.is_estimated:
            self._keep_if_best()
        self._current.scheduler.step()

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the softmax of the network in training, of true classes in the second one."""
        return torch.softmax(self._current(inputs), dim=1)

    def _keep_if_best(self) -> None:
        logits = self.task.scan(self.first, self._held_out).logits
        loss = functional.cross_entropy(logits, self.task.labels[self._held_out.to(self.task.device)])
        if loss < self.lowest_loss:
            self.lowest_loss.copy_(loss)
            self.best.network.load_state_dict(self.first.network.state_dict())

    @property
    def _current(self) -> Learner:
        return self.learner if self.is_estimated else self.first


def forward_loss(logits: Tensor, labels: Tensor, transition: Tensor) -> Tensor:
    """Return the mean of -log Σ_c p_c T_cy.

    Args:
        logits: (B, C) of true classes.
        labels: (B,) as given.
        transition: (C, C) T.
    """
    given = torch.softmax(logits, dim=1) @ transition
    return functional.nll_loss(given.clamp(min=TINY).log(), labels)


def estimate_transition(probabilities: Tensor, outlier_share: float) -> Tensor:
    """Return T, (C, C), from predictions (N, C) of given labels.

    Args:
        probabilities: of a network trained on given labels.
        outlier_share: share of the samples with the largest probability of a class that are not looked at.
    """
    candidates = probabilities
    if outlier_share > 0:
        limits = probabilities.quantile(1 - outlier_share, dim=0, interpolation="higher")
        candidates = probabilities.masked_fill(probabilities >= limits, 0)
    rows = probabilities[candidates.argmax(dim=0)]
    return rows / rows.sum(dim=1, keepdim=True)


METHODS: dict[str, MethodFactory] = {"f-correction": ForwardCorrection}
