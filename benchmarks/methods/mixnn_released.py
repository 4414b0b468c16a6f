"""MixNN as its authors' released code does it, which is not all as the paper says.

Lu & He, "MixNN: Combating Noisy Labels in Deep Learning by Mixing with Nearest Neighbors", IEEE Big Data 2021. What
differs from `benchmarks.methods.mixnn`, with epochs e counted from 1, W the warm-up and E_s the epoch of correction:

    e < W       plain training, without augmentation and in the order of the dataset; W - 1 epochs
    e <= E_s    mixup: random partner, one λ from Beta(1, 1) for a batch; before E_s the loss is λ (-p_i) + (1-λ) (-p_j)
                with the softmax at the given labels, not its logarithm
    e > E_s     the nearest other in the mini-batch, by features of the augmented inputs in train mode (K = 1), and
                λ = P_i / (P_i + P_j); from E_s on the loss is λ CE(t_i) + (1-λ) CE(t_j) with soft targets t
    t           moves towards p of these inputs, before they are mixed, in E_s and every tenth epoch after it
    P           scikit-learn's mixture (10 steps, tol 1e-2, covariance + 5e-4) of losses scaled by minimum and maximum;
                losses against the largest entry of t, not the given label; at 80 % noise the mean of the last 5 epochs'

K, α, W and E_s are those of the paper: 1, 0.9, 10 (30 on CIFAR-100) and 60 of 300; W and E_s are the recipe's here,
and "every tenth epoch" is scaled. The code finds the nearest by HNSW in each batch; here they are exact.

Cost: 1.67 plain trainings: forward before and after mixing, backward, and a scan.
"""

import warnings
from collections.abc import Iterable

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.harness.batches import Batch, IndexedSamples, as_batch
from benchmarks.harness.protocol import MethodFactory, SingleNetwork
from benchmarks.harness.task import Task
from benchmarks.methods.m_correction import mixed
from mixnn_loader.neighbors.in_batch import nearest_in_batch

PUBLISHED_EPOCHS = 300
HEAVY_NOISE = 0.8
TINY = 1e-10


class MixNNReleased(SingleNetwork):
    """The released code.

    Args:
        task: the data, and what to train with.
        momentum: α, what a soft target keeps when it moves.
        update_period: it moves every so many epochs, of 300.
        averaged_epochs: the mixture is fitted to the mean of so many epochs' losses; None: 5 at 80 % noise, else 1.
    """

    soft_targets: Tensor
    clean_probability: Tensor
    losses: Tensor

    def __init__(
        self, task: Task, *, momentum: float = 0.9, update_period: int = 10, averaged_epochs: int | None = None
    ) -> None:
        super().__init__(task)
        self.momentum = momentum
        self.update_period = task.epochs_of(update_period, PUBLISHED_EPOCHS)
        self.warmup_epochs = task.warmup_epochs
        self.correction_epoch = task.correction_epoch
        if averaged_epochs is None:
            averaged_epochs = 5 if task.noise_rate >= HEAVY_NOISE else 1
        self._plain: Iterable[Batch] = DataLoader(
            IndexedSamples(task.scan_data), task.recipe.batch_size, collate_fn=as_batch
        )
        self.register_buffer("soft_targets", task.one_hot(task.labels))
        self.register_buffer("clean_probability", torch.full((task.num_samples,), 0.5))
        self.register_buffer("losses", torch.full((averaged_epochs, task.num_samples), torch.nan))

    @property
    def number(self) -> int:
        """The epoch in progress, counted from 1."""
        return self.epoch + 1

    def begin_epoch(self, epoch: int) -> None:
        """Fit the mixture, if the warm-up is over."""
        super().begin_epoch(epoch)
        if self.number < self.warmup_epochs:
            return
        labels = self.soft_targets.argmax(dim=1)
        losses = functional.cross_entropy(self.task.scan(self.learner).logits, labels, reduction="none")
        spread = (losses.max() - losses.min()).clamp(min=torch.finfo(losses.dtype).tiny)
        self.losses[epoch % len(self.losses)] = (losses - losses.min()) / spread
        self.clean_probability.copy_(clean_probability(self.losses.nanmean(dim=0)))

    def batches(self) -> Iterable[Batch]:
        """Return all samples: shuffled and augmented, or in warm-up neither."""
        return self._plain if self.number < self.warmup_epochs else self._batches

    def step(self, batch: Batch) -> None:
        """Mix the batch and train on it; in warm-up train on it as it is."""
        batch = batch.to(self.task.device)
        if self.number < self.warmup_epochs:
            self.learner.step(functional.cross_entropy(self.learner(batch.inputs), batch.labels))
            return
        with torch.no_grad():
            own_logits, features = self.learner.logits_and_representations(batch.inputs)
        partner, weights = self.pair(batch, features)
        logits = self.learner(mixed(batch.inputs, partner, weights))
        if self.number < self.correction_epoch:
            losses = -logits.softmax(dim=1)
            targets = mixed(self.task.one_hot(batch.labels), partner, weights)
        else:
            if self.updates_targets:
                self._update_targets(batch, own_logits.softmax(dim=1))
            losses = -logits.log_softmax(dim=1)
            targets = mixed(self.soft_targets[batch.indices], partner, weights)
        self.learner.step((targets * losses).sum(dim=1).mean())

    def pair(self, batch: Batch, features: Tensor) -> tuple[Tensor, Tensor]:
        """Choose a partner for each sample, and its own weight against it; both (B,)."""
        if self.number <= self.correction_epoch:
            partner = torch.randperm(len(batch), device=features.device)
            return partner, torch.rand(()).expand(len(batch)).to(features.device)
        partner = nearest_in_batch(features, batch.indices, 1)[0].squeeze(1)
        clean = self.clean_probability[batch.indices]
        return partner, (clean + TINY) / (clean + clean[partner] + TINY)

    @property
    def updates_targets(self) -> bool:
        """Whether soft targets move in this epoch."""
        passed = self.number - self.correction_epoch
        return passed >= 0 and passed % self.update_period == 0

    def _update_targets(self, batch: Batch, predictions: Tensor) -> None:
        old = self.soft_targets[batch.indices]
        self.soft_targets[batch.indices] = self.momentum * old + (1 - self.momentum) * predictions

    def clean_score(self) -> Tensor:
        """Return P, or 1 - P where it is of another label than the given one: if that is right, this is not."""
        is_given = self.soft_targets.argmax(dim=1) == self.task.labels
        return torch.where(is_given, self.clean_probability, 1 - self.clean_probability)

    def corrected_labels(self) -> Tensor:
        """Return the largest entry of each soft target."""
        return self.soft_targets.argmax(dim=1)


def clean_probability(losses: Tensor) -> Tensor:
    """Fit the mixture to losses (N,) and return the part of the component with the smaller mean, (N,)."""
    values = losses.double().cpu().numpy()[:, None]
    # Its starting point is drawn from NumPy's global generator, which is seeded for the epoch.
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 10 steps seldom are enough
        mixture.fit(values)
    probability = mixture.predict_proba(values)[:, mixture.means_.argmin()]
    return torch.from_numpy(probability).to(losses)


METHODS: dict[str, MethodFactory] = {"mixnn-released": MixNNReleased}
