"""The deep abstaining classifier: it may abstain, at a price, and what it abstains on is dropped.

Thulasidasan et al., "Combating Label Noise in Deep Learning Using Abstention", ICML 2019.

There is one output more than classes, with the probability a to abstain. L = (1 - a) CE - α log(1 - a), with CE over
the C classes alone. It begins with plain cross-entropy over all C + 1 outputs, in the examples for 20 of 200 epochs.
From then on it may abstain. The first α is a 64th of the running mean (0.05 for a new batch) of (1 - a) CE, so that to
abstain is cheap. It rises by the epoch, linearly, to 1 in the last one. Then the samples that it abstains on are
dropped, and a new network is trained on the others with cross-entropy.

Loss and α are those of the official code (thulas/dac-label-noise), without its later variant that holds the share of
abstentions. As α rises, this share falls from all samples to few, so that it matters from which epoch the verdict is.
The code does not say which. As summaries have it, the paper takes the epoch that is best on validation data, of which
the harness has none with true labels; and there it drops 24, 41, 56 and 75 % of CIFAR-10 at 20, 40, 60 and 80 % of
noise. So here it is the last epoch in which the network abstains on as many samples as have wrong labels. This method
is told their share, which only the later variant of the official one is. The verdict is that of the training's own
forward passes. Plain cross-entropy lasts for the warm-up that all methods have.

Cost: 2 plain trainings, the second on fewer samples.
"""

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch, Batches
from benchmarks.harness.learner import Learner
from benchmarks.harness.protocol import Method, MethodFactory
from benchmarks.harness.task import Task


class DeepAbstainingClassifier(Method):
    """Train twice: to abstain, and without those abstained on.

    Args:
        task: the data, and what to train with.
        dropped_share: how many samples to abstain on; None: the expected share of wrong labels.
        final_price: α in the last epoch.
        price_divisor: what the mean loss of the warm-up is divided by for the first α.
        momentum: of the mean loss, the weight of a new batch.

    Attributes:
        mean_loss: () running mean of (1 - a) CE; NaN before the first batch.
        first_price: () α in the first epoch in which it may abstain; NaN before.
        latest: (N,) largest logit of a class less that of abstention, as last seen in the first training.
        margin: (N,) the same in the epoch of the verdict; negative: it abstains.
        abstained_share: () in this epoch.
        is_settled: () bool, whether the second training has begun.
    """

    mean_loss: Tensor
    first_price: Tensor
    latest: Tensor
    margin: Tensor
    abstained_share: Tensor
    is_settled: Tensor

    def __init__(
        self,
        task: Task,
        *,
        dropped_share: float | None = None,
        final_price: float = 1.0,
        price_divisor: float = 64.0,
        momentum: float = 0.05,
    ) -> None:
        super().__init__(task)
        self.num_epochs = 2 * task.num_epochs
        self.dropped_share = task.wrong_share if dropped_share is None else dropped_share
        self.final_price, self.price_divisor, self.momentum = final_price, price_divisor, momentum
        self.abstainer, self.learner = task.learner(num_outputs=task.num_classes + 1), task.learner()
        self.register_buffer("mean_loss", torch.tensor(torch.nan))
        self.register_buffer("first_price", torch.tensor(torch.nan))
        self.register_buffer("latest", torch.zeros(task.num_samples))
        self.register_buffer("margin", torch.zeros(task.num_samples))
        self.register_buffer("abstained_share", torch.tensor(0.0))
        self.register_buffer("is_settled", torch.zeros((), dtype=torch.bool))
        self.epoch = 0
        self._batches = task.batches()

    def begin_epoch(self, epoch: int) -> None:
        """Note the epoch, and drop samples where the second training begins."""
        self.epoch = epoch
        if epoch == self.task.num_epochs:
            self.is_settled.fill_(1)
        if epoch >= self.task.num_epochs:
            kept = self.margin >= 0
            # Where it abstained on all in every epoch, as in a short training, there is nothing left to learn from.
            subset = kept.nonzero().squeeze(1) if kept.any() else None
            self._batches = self.task.batches(subset=subset)

    def batches(self) -> Batches:
        """Return the samples of this training."""
        return self._batches

    def step(self, batch: Batch) -> None:
        """Take a step down the gradient of this training's loss."""
        batch = batch.to(self.task.device)
        learner = self._current
        logits = learner(batch.inputs)
        if learner is self.learner:
            loss = functional.cross_entropy(logits, batch.labels)
        else:
            self.latest[batch.indices] = (logits[:, :-1].max(dim=1).values - logits[:, -1]).detach()
            loss = self.abstaining_loss(logits, batch.labels)
        learner.step(loss)

    def abstaining_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of the first training, and follow its mean.

        Args:
            logits: (B, C + 1).
            labels: (B,).
        """
        log_answers = logits[:, :-1].logsumexp(dim=1) - logits.logsumexp(dim=1)
        losses = log_answers.exp() * functional.cross_entropy(logits[:, :-1], labels, reduction="none")
        new = losses.detach().mean()
        self.mean_loss.copy_(torch.where(self.mean_loss.isnan(), new, self.mean_loss.lerp(new, self.momentum)))
        if self.epoch < self.task.warmup_epochs:
            return functional.cross_entropy(logits, labels)
        first = self.mean_loss / self.price_divisor
        self.first_price.copy_(torch.where(self.first_price.isnan(), first, self.first_price))
        return (losses - self.price * log_answers).mean()

    @property
    def price(self) -> Tensor:
        """() α of this epoch."""
        since = self.epoch - self.task.warmup_epochs
        progress = since / max(1, self.task.num_epochs - 1 - self.task.warmup_epochs)
        return self.first_price + progress * (self.final_price - self.first_price)

    def end_epoch(self, epoch: int) -> None:
        """Lower the learning rate; in the first training, see whether this epoch's verdict shall count."""
        if self.task.warmup_epochs <= epoch < self.task.num_epochs:
            share = (self.latest < 0).float().mean()
            # Until there are enough, take what there is: the network may never abstain on so many.
            if share >= self.abstained_share.clamp(max=self.dropped_share):
                self.abstained_share.copy_(share)
                self.margin.copy_(self.latest)
        self._current.scheduler.step()

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the softmax over the classes, of the network in training."""
        return torch.softmax(self._current(inputs)[:, : self.task.num_classes], dim=1)

    def clean_score(self) -> Tensor:
        """Return how far it was from abstaining by the verdict."""
        return self.margin

    @property
    def _current(self) -> Learner:
        return self.learner if self.is_settled else self.abstainer


METHODS: dict[str, MethodFactory] = {"dac": DeepAbstainingClassifier}
