"""DivideMix: what looks mislabeled is unlabeled data, and two networks teach each other.

Li, Socher & Hoi, "DivideMix: Learning with Noisy Labels as Semi-supervised Learning", ICLR 2020. After a warm-up with
cross-entropy, in every epoch and for each of two networks in turn:

- Co-divide: two Gaussians are fitted to the *other* network's losses, scaled to [0, 1]. P is the posterior of the lower
  mean; samples with P > τ are labeled, the rest unlabeled.
- Co-refine: the target of a labeled sample is sharpen(P y + (1 - P) p), p the mean over two views.
- Co-guess: the target of an unlabeled sample is sharpen(the mean of p over two views and both networks).
- MixMatch: all views are mixed with each other, λ = max(l, 1 - l), l from Beta(4, 4). L = cross-entropy of the labeled
  + λ_u * mean squared error of the unlabeled + KL(uniform || mean p).

Published: T = 0.5; τ = 0.5, and 0.6 at 90 % noise; a warm-up of 10 of 300 epochs (CIFAR-100: 30), after which λ_u
rises over 16. On CIFAR-10 λ_u = 0 at 20 % and at asymmetric 40 %, 25 at 50 and 80 %, 50 at 90 %; on CIFAR-100 25 at
20 %, else 150: Table 7 of the paper, as authors and users quote it in the issues of the official repository and in
scripts. At 90 % noise losses are means over the last 5 epochs.

This follows the official code; λ_u, τ and that mean are chosen by the nominal rate of noise. Batches are half labeled
and half unlabeled samples and have the recipe's size in all; the code has 64 and 64. The 16 epochs are scaled. With
asymmetric noise the code also penalizes confident predictions in the warm-up, see `confidence_penalty`.

Cost: 2 (18 r + 1) / 3 plain trainings after the warm-up, r the share of samples that are judged clean: 6.7 at r = 0.5.
"""

import warnings
from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch, Batches
from benchmarks.harness.protocol import MethodFactory
from benchmarks.harness.task import Task
from benchmarks.methods.common.mixmatch import guess, refined, semi_supervised_loss
from benchmarks.methods.common.semi_supervised import endless, mix, sharpen
from benchmarks.methods.common.two_networks import TwoNetworksTogether

NUM_VIEWS = 2


class Divided(NamedTuple):
    """A batch for one of the networks.

    Attributes:
        member: which network, 0 or 1.
        labeled: samples to be learned with their labels; in the warm-up any.
        unlabeled: other ones; None: there are none.
        epoch: epochs trained so far, with a fraction.
    """

    member: int
    labeled: Batch
    unlabeled: Batch | None
    epoch: float


class DivideMix(TwoNetworksTogether):
    """Two networks, co-divided.

    Args:
        task: the data, and what to train with.
        threshold: τ of P; None: the published one for the rate of noise.
        temperature: T of sharpening.
        alpha: of the Beta distribution.
        unlabeled_weight: λ_u; None: the published one for the rate of noise and the number of classes.
        ramp_epochs: over how many epochs of 300 λ_u rises.
        averaged_scans: losses are means over so many epochs; None: 5 from 90 % noise on, else 1.
        confidence_penalty: add the negative entropy to the loss in the warm-up, for asymmetric noise.
    """

    losses: Tensor
    clean_probability: Tensor
    relabeled: Tensor

    def __init__(
        self,
        task: Task,
        *,
        threshold: float | None = None,
        temperature: float = 0.5,
        alpha: float = 4.0,
        unlabeled_weight: float | None = None,
        ramp_epochs: int = 16,
        averaged_scans: int | None = None,
        confidence_penalty: bool = False,
    ) -> None:
        super().__init__(task)
        is_extreme = task.noise_rate >= 0.9
        self.threshold = threshold if threshold is not None else 0.6 if is_extreme else 0.5
        self.temperature, self.alpha, self.confidence_penalty = temperature, alpha, confidence_penalty
        published = published_weight(task.noise_rate, task.num_classes)
        self.unlabeled_weight = published if unlabeled_weight is None else unlabeled_weight
        self.ramp_epochs = task.epochs_of(ramp_epochs, 300)
        num_scans = averaged_scans or (5 if is_extreme else 1)
        self.register_buffer("losses", torch.full((2, num_scans, task.num_samples), torch.nan))
        self.register_buffer("clean_probability", torch.ones(2, task.num_samples))
        self.register_buffer("relabeled", task.labels.clone())

    def begin_epoch(self, epoch: int) -> None:
        """Divide the data anew, after the warm-up."""
        super().begin_epoch(epoch)
        if epoch >= self.task.warmup_epochs:
            self._divide()

    def _divide(self) -> None:
        given, logits = self.task.labels, [self.task.scan(learner).logits for learner in self.learners]
        for member, of_member in enumerate(logits):
            losses = functional.cross_entropy(of_member, given, reduction="none")
            scaled = (losses - losses.min()) / (losses.max() - losses.min())
            self.losses[member] = torch.cat([self.losses[member, 1:], scaled.unsqueeze(0)])
            self.clean_probability[member] = clean_posterior(self.losses[member].nanmean(dim=0))
        guessed = torch.stack(logits).softmax(dim=2).mean(dim=0).argmax(dim=1)
        self.relabeled.copy_(torch.where(self.clean_probability.mean(dim=0) > self.threshold, given, guessed))

    def batches(self) -> Iterator[Divided]:
        """Return the batches for the first network, and then those for the second."""
        for member in range(2):
            yield from self._divided(member) if self.epoch >= self.task.warmup_epochs else self._undivided(member)

    def _undivided(self, member: int) -> Iterator[Divided]:
        for batch in self.task.batches():
            yield Divided(member, batch, None, self.epoch)

    def _divided(self, member: int) -> Iterator[Divided]:
        is_labeled = self.clean_probability[1 - member] > self.threshold
        if not is_labeled.any():
            return
        labeled = self._loader(is_labeled, 1 + 2 * member)
        others: Iterator[Batch | None] = repeat(None)
        if not is_labeled.all():
            others = endless(self._loader(~is_labeled, 2 + 2 * member))
        for step, batch in enumerate(labeled):
            yield Divided(member, batch, next(others), self.epoch + step / len(labeled))

    def _loader(self, chosen: Tensor, stream: int) -> Batches:
        size = max(1, self.task.recipe.batch_size // 2)
        return self.task.batches(num_views=NUM_VIEWS, subset=chosen.nonzero().flatten(), batch_size=size, stream=stream)

    def step(self, batch: Divided) -> None:
        """Train one of the networks on a batch."""
        learner, other = self.learners[batch.member], self.learners[1 - batch.member]
        labeled = batch.labeled.to(self.task.device)
        if self.epoch < self.task.warmup_epochs:
            learner.step(self.warmup_loss(learner(labeled.inputs), labeled.labels))
            return
        learner.train()
        other.eval()
        clean = self.clean_probability[1 - batch.member, labeled.indices]
        given = self.task.one_hot(labeled.labels)
        views = [labeled.inputs, *labeled.views]
        targets = [refined(given, clean, guess([learner], views), self.temperature)] * len(views)
        if batch.unlabeled is not None:
            unlabeled = batch.unlabeled.to(self.task.device)
            other_views = [unlabeled.inputs, *unlabeled.views]
            targets += [sharpen(guess([learner, other], other_views), self.temperature)] * len(other_views)
            views += other_views
        mixed = mix(torch.cat(views), torch.cat(targets), self.alpha)
        weight = self.unlabeled_weight * self.rise(batch.epoch)
        num_labeled = NUM_VIEWS * len(labeled)
        learner.step(semi_supervised_loss(learner(mixed.inputs), mixed.targets, num_labeled, weight))

    def warmup_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy, with the negative entropy if that is asked for."""
        loss = functional.cross_entropy(logits, labels)
        if self.confidence_penalty:
            loss = loss + (logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1).mean()
        return loss

    def rise(self, epoch: float) -> float:
        """Return how far λ_u has risen, in [0, 1]."""
        return min(max((epoch - self.task.warmup_epochs) / self.ramp_epochs, 0), 1)

    def clean_score(self) -> Tensor:
        """Return the mean of both networks' P."""
        return self.clean_probability.mean(dim=0)

    def corrected_labels(self) -> Tensor:
        """Return the given label where the mean of P is above τ, else what both networks guess."""
        return self.relabeled


def clean_posterior(losses: Tensor) -> Tensor:
    """Return P (N,): the posterior of the lower of two Gaussians that are fitted to losses (N,)."""
    values = losses.unsqueeze(1).double().cpu().numpy()
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0)
    with warnings.catch_warnings():  # ten iterations are what is published, converged or not
        warnings.simplefilter("ignore", ConvergenceWarning)
        posterior = mixture.fit(values).predict_proba(values)[:, mixture.means_.argmin()]
    return torch.as_tensor(posterior, dtype=losses.dtype, device=losses.device)


def published_weight(noise_rate: float, num_classes: int) -> float:
    """Return λ_u of the paper's experiment with symmetric noise of that rate, or of the next lower one."""
    if num_classes > 10:
        return 25.0 if noise_rate < 0.5 else 150.0
    return 0.0 if noise_rate < 0.5 else 25.0 if noise_rate < 0.9 else 50.0


METHODS: dict[str, MethodFactory] = {"dividemix": DivideMix}
