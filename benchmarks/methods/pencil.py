"""PENCIL: labels are parameters, and learned together with the network.

Yi & Wu, "Probabilistic End-to-end Noise Correction for Learning with Noisy Labels", CVPR 2019. Each sample has C
numbers v, and the label distribution d = softmax(v); v starts as 10 at the given class y and 0 elsewhere. Three
stages:

    1  L = -log p_y at a constant learning rate of 0.06
    2  L = KL(p || d) / C  +  α CE(d, y)  +  β H(p) / C for the network, still at 0.06, and v <- v - λ ∂L/∂v
    3  L = KL(p || d) / C with d as it is, at 0.2, 0.02 and 0.002, a third of the stage each

Published: the stages end after 70, 200 and 320 epochs; α = 0.4, β = 0.1, λ = 600, batches of 128 (the defaults of the
released code, on 10 classes).

Paper and released code: the code hands d to a cross-entropy that takes logits, so that CE(d, y) is -log softmax(d)_y.
We follow it, as the values above are tuned to it: with -log d_y, what pulls d to y would be α C = 4 times as strong
as what pulls it to p, and no label could ever change. The rates of stage 3 are the paper's; in the code an integer
division makes 0 of 0.02. In the code λ acts on a mean over the batch, so that samples of a small last batch move
further; here every sample moves as in a batch of 128. λ is larger where the training is shorter, so that labels can
go as far as in 320 epochs. The learning rates are the published ones, not the recipe's: they go with the division by
C.

Cost: 1 plain training. State: N x C.
"""

from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import LossMethod, MethodFactory
from benchmarks.harness.task import Task

PUBLISHED_EPOCHS, PUBLISHED_BATCH_SIZE = 320, 128
INITIAL_LOGIT = 10.0


class Pencil(LossMethod):
    """The three stages.

    Args:
        task: the data, and what to train with.
        lr: learning rate of stages 1 and 2.
        last_lr: learning rate at the start of stage 3.
        alpha: α, how far labels keep to the given ones.
        beta: β, weight of the entropy.
        label_lr: λ, learning rate of v.
        first_end: number of epochs of stage 1, of 320.
        second_end: epoch at which stage 2 ends, of 320.
    """

    label_logits: Tensor

    def __init__(
        self,
        task: Task,
        *,
        lr: float = 0.06,
        last_lr: float = 0.2,
        alpha: float = 0.4,
        beta: float = 0.1,
        label_lr: float = 600.0,
        first_end: int = 70,
        second_end: int = 200,
    ) -> None:
        super().__init__(task)
        self.lr, self.last_lr, self.alpha, self.beta = lr, last_lr, alpha, beta
        self.label_step = label_lr / PUBLISHED_BATCH_SIZE * PUBLISHED_EPOCHS / task.num_epochs
        self.first_end = task.epochs_of(first_end, PUBLISHED_EPOCHS)
        self.second_end = task.epochs_of(second_end, PUBLISHED_EPOCHS)
        self.register_buffer("label_logits", INITIAL_LOGIT * task.one_hot(task.labels))

    def begin_epoch(self, epoch: int) -> None:
        """Set the learning rate of the stage."""
        super().begin_epoch(epoch)
        self.learner.set_lr(self.learning_rate(epoch))

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch."""
        if epoch < self.second_end:
            return self.lr
        third = 3 * (epoch - self.second_end) // (self.num_epochs - self.second_end)
        return self.last_lr * 0.1**third

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the loss of the stage; in stage 2 take a step with the labels as well."""
        if self.epoch < self.first_end:
            return functional.cross_entropy(logits, batch.labels)
        label_logits = self.label_logits[batch.indices]
        log_p = logits.log_softmax(dim=1)
        p, log_d = log_p.exp(), label_logits.log_softmax(dim=1)
        divergence = (p * (log_p - log_d)).sum(dim=1).mean() / self.task.num_classes
        if self.epoch >= self.second_end:
            return divergence
        gradient = label_gradient(label_logits, p.detach(), self.task.one_hot(batch.labels), self.alpha)
        self.label_logits[batch.indices] = label_logits - self.label_step * gradient
        entropy = -(p * log_p).sum(dim=1).mean() / self.task.num_classes
        return divergence + self.beta * entropy

    def end_epoch(self, epoch: int) -> None:
        """Leave the learning rate to `begin_epoch`."""

    def clean_score(self) -> Tensor:
        """Return what the label distribution gives to the given class."""
        return self.label_logits.softmax(dim=1).gather(1, self.task.labels.unsqueeze(1)).squeeze(1)

    def corrected_labels(self) -> Tensor:
        """Return the largest entry of each label distribution."""
        return self.label_logits.argmax(dim=1)


def label_gradient(label_logits: Tensor, p: Tensor, given: Tensor, alpha: float) -> Tensor:
    """Differentiate KL(p || d) / C + α CE(d, y) of each sample by its v.

    Args:
        label_logits: (B, C), v.
        p: (B, C), what the network predicts.
        given: (B, C), y, one-hot.
        alpha: α.

    Returns:
        (B, C).
    """
    d = label_logits.softmax(dim=1)
    by_d = d.softmax(dim=1) - given  # CE takes d for logits
    compatibility = d * (by_d - (d * by_d).sum(dim=1, keepdim=True))
    return (d - p) / p.shape[1] + alpha * compatibility


METHODS: dict[str, MethodFactory] = {"pencil": Pencil}
