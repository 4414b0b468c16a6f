"""SELF: an ensemble over epochs tells which labels to keep, and a mean teacher learns from all samples.

Nguyen, Mummadi, Ngo, Nguyen, Beggel & Brox, "SELF: Learning to Filter Noisy Labels with Self-Ensembling", ICLR 2020. A
training is repeated in rounds, before each of which labels are filtered:

    z <- α z + (1 - α) p after every epoch, p what the teacher predicts
    the label of x is kept if argmax z(x) is the label *as given*, so that a dropped one may come back
    L = cross-entropy of the kept labels + w * mean squared error between the student's and the teacher's softmax

The second term is on all samples. The teacher is the running average of the student's weights (Tarvainen & Valpola,
"Mean teachers are better role models", NeurIPS 2017). Rounds go on as long as the accuracy on noisy validation data
does not fall, and the best teacher is the result.

No official code is known to us. In the paper, z as it was at the best epoch is what filters; its α we could not look
up, and 0.9 is as we remember it. A summary of the paper has later rounds go on from the model before to save time.
The rest is from the official code of Mean Teacher for a ResNet-26 on CIFAR-10, but for its second head: w = 100, which
rises as exp(-5 (1 - s)²) over 5 of 180 epochs; decay 0.97 of the weights, in the first steps their mean; the
cross-entropy is divided by the size of the whole batch. Our own choices: a tenth of the training data is held out for
validation; p is from a scan without augmentation; z goes on in the next round from where it was best; rounds start from
the same initial weights, and there are at most 3.

Cost: 1.5 plain trainings a round, 4.6 in all; less if a round is no better than those before.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import Method, MethodFactory
from benchmarks.harness.task import Task
from benchmarks.methods.common.semi_supervised import average_weights, ramp_up


class SelfEnsemble(Method):
    """A mean teacher on labels that an ensemble over epochs agrees with.

    Args:
        task: the data, and what to train with.
        num_rounds: at most so many trainings.
        momentum: α of the ensemble's predictions.
        consistency: w.
        ramp_epochs: over how many epochs of 180 it rises.
        decay: of the teacher's weights.
        validation_share: of the samples, held out.

    Attributes:
        student: the network that is trained.
        teacher: its running average.
        best: the best teacher so far.
        held_out: (N,) bool, samples for validation.
    """

    ensemble: Tensor
    best_ensemble: Tensor
    best_accuracy: Tensor
    best_epoch: Tensor
    is_kept: Tensor

    def __init__(
        self,
        task: Task,
        *,
        num_rounds: int = 3,
        momentum: float = 0.9,
        consistency: float = 100.0,
        ramp_epochs: int = 5,
        decay: float = 0.97,
        validation_share: float = 0.1,
    ) -> None:
        super().__init__(task)
        self.num_epochs = num_rounds * task.num_epochs
        self.momentum, self.consistency, self.decay = momentum, consistency, decay
        self.ramp_epochs = task.epochs_of(ramp_epochs, 180)
        # Learners for the sake of autocast; only the student's optimizer is used.
        self.student, self.teacher, self.best = task.learner(), task.learner(), task.learner()
        order = torch.randperm(task.num_samples, generator=torch.Generator().manual_seed(task.seed))
        self.held_out = torch.zeros(task.num_samples, dtype=torch.bool, device=task.device)
        self.held_out[order[: max(1, round(validation_share * task.num_samples))].to(task.device)] = True
        self._batches = task.batches(num_views=2, subset=(~self.held_out).nonzero().flatten())
        shape = (task.num_samples, task.num_classes)
        self.register_buffer("ensemble", torch.zeros(shape))
        self.register_buffer("best_ensemble", torch.zeros(shape))
        self.register_buffer("best_accuracy", torch.tensor(-1.0))
        self.register_buffer("best_epoch", torch.tensor(-1))
        self.register_buffer("is_kept", torch.ones(task.num_samples, dtype=torch.bool))
        self.is_over = False
        self._epoch_of_round = self._steps = 0

    def begin_epoch(self, epoch: int) -> None:
        """Start a round, or end it all: if the round before was no better than those before it."""
        length = self.task.num_epochs
        current_round, self._epoch_of_round = divmod(epoch, length)
        self._steps = self._epoch_of_round * len(self._batches)
        self.is_over = current_round > 0 and int(self.best_epoch) < (current_round - 1) * length
        if current_round > 0 and self._epoch_of_round == 0 and not self.is_over:
            self.student, self.teacher = self.task.learner(), self.task.learner()
            self.ensemble.copy_(self.best_ensemble)
            self.is_kept.copy_(self.best_ensemble.argmax(dim=1) == self.task.labels)

    def batches(self) -> Iterable[Batch]:
        """Return all samples but those held out, in two views."""
        return [] if self.is_over else self._batches

    def step(self, batch: Batch) -> None:
        """Train the student, and let the teacher follow."""
        batch = batch.to(self.task.device)
        logits = self.student(batch.inputs)
        with torch.no_grad():
            taught = torch.softmax(self.teacher(batch.views[0]), dim=1)
        weight = self.consistency * ramp_up(self._epoch_of_round, self.ramp_epochs)
        self.student.step(filtered_loss(logits, batch.labels, self.is_kept[batch.indices], taught, weight))
        self._steps += 1
        average_weights(self.teacher.network, self.student.network, min(1 - 1 / (self._steps + 1), self.decay))

    def end_epoch(self, epoch: int) -> None:
        """Add the teacher's predictions to the ensemble, and keep the teacher if it is the best one."""
        if self.is_over:
            return
        self.student.scheduler.step()
        predicted = self.task.scan(self.teacher).logits.softmax(dim=1)
        self.ensemble.lerp_(predicted, 1 - self.momentum)
        accuracy = (predicted.argmax(dim=1) == self.task.labels)[self.held_out].float().mean()
        if accuracy >= self.best_accuracy:
            self.best_accuracy.copy_(accuracy)
            self.best_epoch.fill_(epoch)
            self.best_ensemble.copy_(self.ensemble)
            self.best.network.load_state_dict(self.teacher.network.state_dict())

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the softmax of the best teacher so far."""
        return torch.softmax(self.best(inputs), dim=1)

    def clean_score(self) -> Tensor:
        """Return by how much the ensemble prefers the given label to the best other one: above 0 if it is kept."""
        labels = self.task.labels.unsqueeze(1)
        others = self.best_ensemble.scatter(1, labels, -1.0)
        return self.best_ensemble.gather(1, labels).squeeze(1) - others.max(dim=1).values


def filtered_loss(logits: Tensor, labels: Tensor, is_kept: Tensor, taught: Tensor, weight: float) -> Tensor:
    """Return the loss of a batch.

    Args:
        logits: (B, C) of the student.
        labels: (B,), as given.
        is_kept: (B,) bool, whose labels count.
        taught: (B, C) softmax of the teacher.
        weight: w.
    """
    losses = functional.cross_entropy(logits, labels, reduction="none")
    return (losses * is_kept).mean() + weight * functional.mse_loss(logits.softmax(dim=1), taught)


METHODS: dict[str, MethodFactory] = {"self": SelfEnsemble}
