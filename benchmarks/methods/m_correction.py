"""M-correction: mixup, and labels that are trusted as far as a two-component Beta mixture of the losses says.

Arazo et al., "Unsupervised Label Noise Modeling and Loss Correction", ICML 2019. After every epoch the losses of all
samples are scaled to [0, 1] between their 5th and 95th percentile, and a mixture of two Beta distributions is fitted
by 10 steps of EM. w = P(wrong | loss) of a sample in a batch comes from its loss at that moment, in eval mode.

m-correction (M-DYR-H): mixup with λ from Beta(32, 32), one a batch, and

    L = λ L_i + (1-λ) L_j + KL(u || p̄),    L_i = (1-w_i) CE(p, y_i) + w_i CE(p, z_i),

z_i the class predicted for the sample before it is mixed, u uniform, p̄ the mean of p over the batch.

m-correction-mixing (MD-DYR-SH): the inputs are mixed by

    x̃ = ((1-w_i) x_i + (1-w_j) x_j) / ((1-w_i) + (1-w_j)),

which are MixNN's weights (Eq. 10) at K = 1, with a random partner in place of the nearest neighbor and Beta in place
of normal distributions. The two targets count half each, and z is soft: softmax(z / T), T from 1 to 0.001.

Published: 300 epochs, of which the first 105 are plain mixup; in MD-DYR-SH the next 5 mix as above, but with the
given labels (weighed by λ) and without the KL term, and T falls over the 88 epochs after these. All are scaled. The
released code reads w from a table of 100 bins that is made constant beyond its maximum; we follow it. Losses are
scanned with the augmentation of training, as there, but not before they are needed.

Cost: 2.0 plain trainings an epoch (a sample goes forward in training and in eval mode, is mixed, and is scanned), 1.0
in the epochs of plain mixup: 1.65 in total. The first epochs of MD-DYR-SH's mixing lack one of the forward passes.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import MethodFactory, SingleNetwork
from benchmarks.harness.task import SCAN_BATCH_SIZE, Task
from benchmarks.methods.common.beta_mixture import NUM_BINS, fit_mixture, noise_table, scaled

PUBLISHED_EPOCHS = 300
FINAL_TEMPERATURE = 0.001
SMALLEST_W = 1e-4


class MCorrection(SingleNetwork):
    """M-DYR-H.

    Args:
        task: the data, and what to train with.
        alpha: λ is drawn from Beta(alpha, alpha).
        regularization: weight of the KL term.
        start: number of epochs of plain mixup, of 300.
    """

    noisy_by_bin: Tensor
    loss_range: Tensor
    noisy: Tensor
    predicted: Tensor

    def __init__(self, task: Task, *, alpha: float = 32.0, regularization: float = 1.0, start: int = 105) -> None:
        super().__init__(task)
        self.alpha, self.regularization = alpha, regularization
        self.start = task.epochs_of(start, PUBLISHED_EPOCHS)
        self._scan_batches = task.batches(batch_size=SCAN_BATCH_SIZE, stream=1)
        self.register_buffer("noisy_by_bin", torch.full((NUM_BINS,), 0.5))
        self.register_buffer("loss_range", torch.tensor([0.0, 1.0]))
        self.register_buffer("noisy", torch.full((task.num_samples,), 0.5))
        self.register_buffer("predicted", task.labels.clone())

    def step(self, batch: Batch) -> None:
        """Mix the batch and train on it."""
        batch = batch.to(self.task.device)
        partner = torch.randperm(len(batch), device=self.task.device)
        if self.epoch < self.start:
            inputs, targets = self.mixup(batch.inputs, self.task.one_hot(batch.labels), partner)
            self.learner.step(self.loss_of_mixed(self.learner(inputs), targets, 0.0))
        else:
            self.corrected_step(batch, partner)

    def corrected_step(self, batch: Batch, partner: Tensor) -> None:
        """Take a step of the second phase."""
        noisy = self.noise_probability(batch)
        targets = corrected_targets(self.task.one_hot(batch.labels), noisy, self.own_predictions(batch.inputs))
        inputs, targets = self.mixup(batch.inputs, targets, partner)
        self.learner.step(self.loss_of_mixed(self.learner(inputs), targets, self.regularization))

    def mixup(self, inputs: Tensor, targets: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
        """Mix inputs and targets (B, ...) with those of partners (B,), by one λ."""
        weight = float(np.random.beta(self.alpha, self.alpha))
        return mixed(inputs, partner, weight), mixed(targets, partner, weight)

    def loss_of_mixed(self, logits: Tensor, targets: Tensor, regularization: float) -> Tensor:
        """Return the loss of mixed samples, which is linear in the target."""
        loss = functional.cross_entropy(logits, targets)
        if regularization == 0:
            return loss
        return loss + regularization * divergence_from_uniform(logits)

    @torch.no_grad()
    def own_predictions(self, inputs: Tensor) -> Tensor:
        """Return z (B, C) of samples before they are mixed, one-hot."""
        return self.task.one_hot(self.learner(inputs).argmax(dim=1))

    @torch.no_grad()
    def noise_probability(self, batch: Batch) -> Tensor:
        """Return w (B,) from the samples' present losses."""
        self.learner.eval()
        losses = functional.cross_entropy(self.learner(batch.inputs), batch.labels, reduction="none")
        self.learner.train()
        return self.look_up(losses)

    def look_up(self, losses: Tensor) -> Tensor:
        """Return w (n,) of losses (n,)."""
        bins = (NUM_BINS * scaled(losses, self.loss_range)).long().clamp(max=NUM_BINS - 1)
        return self.noisy_by_bin[bins].clamp(SMALLEST_W, 1 - SMALLEST_W)

    def end_epoch(self, epoch: int) -> None:
        """Fit the mixture, from the last epoch before it is needed on."""
        super().end_epoch(epoch)
        if epoch + 1 >= self.start:
            self._scan()

    @torch.no_grad()
    def _scan(self) -> None:
        losses = torch.zeros_like(self.noisy)
        self.learner.eval()
        for part in self._scan_batches:
            batch = part.to(self.task.device)
            logits = self.learner(batch.inputs)
            losses[batch.indices] = functional.cross_entropy(logits, batch.labels, reduction="none")
            self.predicted[batch.indices] = logits.argmax(dim=1)
        self.learner.train()
        low, high = np.percentile(losses.double().cpu().numpy(), [5, 95])
        loss_range = torch.tensor([low, high], dtype=losses.dtype, device=losses.device)
        inside = losses[(losses >= loss_range[0]) & (losses <= loss_range[1])]
        mixture = fit_mixture(scaled(inside, loss_range).double().cpu())
        if mixture.is_usable:
            self.loss_range.copy_(loss_range)
            self.noisy_by_bin.copy_(noise_table(mixture))
        self.noisy.copy_(self.look_up(losses))

    def clean_score(self) -> Tensor:
        """Return 1 - w."""
        return 1 - self.noisy

    def corrected_labels(self) -> Tensor:
        """Return the class that has the larger part in a sample's loss: the predicted one where w > 1/2."""
        return torch.where(self.noisy > 0.5, self.predicted, self.task.labels)


class MCorrectionMixing(MCorrection):
    """MD-DYR-SH.

    Args:
        task: the data, and what to train with.
        alpha: see `MCorrection`.
        regularization: see `MCorrection`.
        start: see `MCorrection`.
        correction_start: labels are corrected after so many epochs, of 300.
        cooling: T falls over so many epochs, of 300.
    """

    def __init__(
        self,
        task: Task,
        *,
        alpha: float = 32.0,
        regularization: float = 1.0,
        start: int = 105,
        correction_start: int = 110,
        cooling: int = 88,
    ) -> None:
        super().__init__(task, alpha=alpha, regularization=regularization, start=start)
        self.correction_start = task.epochs_of(correction_start, PUBLISHED_EPOCHS)
        self.cooling = task.epochs_of(cooling, PUBLISHED_EPOCHS)

    @property
    def temperature(self) -> float:
        """T of the epoch in progress."""
        progress = min(1.0, (self.epoch - self.correction_start) / self.cooling)
        return 1 - (1 - FINAL_TEMPERATURE) * progress

    def corrected_step(self, batch: Batch, partner: Tensor) -> None:
        """Take a step of the second or the third phase."""
        noisy = self.noise_probability(batch)
        inputs = mixed(batch.inputs, partner, mixing_weights(noisy, noisy[partner]))
        targets, weight, regularization = self.task.one_hot(batch.labels), 0.5, self.regularization
        if self.epoch < self.correction_start:
            weight, regularization = float(np.random.beta(self.alpha, self.alpha)), 0.0
        else:
            targets = corrected_targets(targets, noisy, self.own_predictions(batch.inputs))
        logits = self.learner(inputs)
        self.learner.step(self.loss_of_mixed(logits, mixed(targets, partner, weight), regularization))

    @torch.no_grad()
    def own_predictions(self, inputs: Tensor) -> Tensor:
        """Return z (B, C) of samples before they are mixed, softmax(z / T)."""
        logits: Tensor = self.learner(inputs)
        return (logits / self.temperature).softmax(dim=1)


def mixed(values: Tensor, partner: Tensor, weights: Tensor | float) -> Tensor:
    """Mix (B, ...) with the rows of partners (B,); the weights (B,) are those of the first."""
    if isinstance(weights, Tensor):
        weights = weights.reshape(-1, *[1] * (values.ndim - 1))
    return weights * values + (1 - weights) * values[partner]


def mixing_weights(noisy: Tensor, noisy_of_partner: Tensor) -> Tensor:
    """Return the weights (B,) of samples against their partners, from w (B,) of both."""
    clean, clean_of_partner = 1 - noisy, 1 - noisy_of_partner
    return clean / (clean + clean_of_partner)


def corrected_targets(given: Tensor, noisy: Tensor, predictions: Tensor) -> Tensor:
    """Return (1-w) y + w z, from y and z (B, C) and w (B,)."""
    return given + noisy.unsqueeze(1) * (predictions - given)


def divergence_from_uniform(logits: Tensor) -> Tensor:
    """Return KL(u || p̄) of logits (B, C)."""
    mean = logits.softmax(dim=1).mean(dim=0)
    return -(mean * len(mean)).log().mean()


METHODS: dict[str, MethodFactory] = {"m-correction": MCorrection, "m-correction-mixing": MCorrectionMixing}
