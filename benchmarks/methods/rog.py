"""RoG: a generative classifier on the features of a network that was trained on noisy labels.

Lee et al., "Robust Inference via Generative Classifiers for Handling Noisy Labels", ICML 2019. Once the network is
trained, features of several layers are taken from the training set, in eval mode and averaged over places. For each
layer:

    1  from a random 70 % of each class: the means, and the covariance S that all classes share
    2  of each class the 70 % that are nearest by -(f-μ)ᵀ S⁻¹ (f-μ) stay (minimum covariance determinant)
    3  from these: means, and S as the mean of the classes' covariances, weighted by their sizes
    4  p(c | f) = softmax of μ_cᵀ S⁻¹ f - μ_cᵀ S⁻¹ μ_c / 2

The layers' p are averaged by weights a = softmax(w), which minimize -log Σ_l a_l p_l(y) on a small, noisy validation
set (Adam, 0.02, 20 epochs, batches of 50), of which the half that fits best to its labels stays.

Paper and released code: the code takes a single step of 2 and 3, and so do we. It scales the S of step 1 wrongly,
which only matters for how much the last class counts; here all classes count by their sizes. It takes three places in
the last block of the network; our networks give the outputs of their stages, of which we take the last three. Its
validation set, 50 samples a class (5 on CIFAR-100), comes from test data with labels made noisy; here they are
training samples.

"rog" stands on plain training, "rog-d2l" on D2L. The harness averages figures over the last 10 epochs, so that it is
fitted after each of them; only the last fit is counted.

Cost: that of the training, one scan, and the covariances.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness.learner import Learner
from benchmarks.harness.protocol import Method, MethodFactory, SingleNetwork
from benchmarks.harness.task import Task
from benchmarks.harness.watch import AVERAGED_EPOCHS
from benchmarks.methods.common.gaussians import Gaussians
from benchmarks.methods.cross_entropy import CrossEntropy
from benchmarks.methods.d2l import D2L

WEIGHT_EPOCHS, WEIGHT_BATCH_SIZE, WEIGHT_LR = 20, 50, 0.02


class RoG(Method):
    """A training of another method's, and what comes after.

    Args:
        task: the data, and what to train with.
        base: the method that trains the network.
        num_layers: how many stages' outputs are taken, the last ones of the network.
        kept: share of each class that stays.
        num_validation: samples a class to weigh the layers with; None: as published for the number of classes.
    """

    layer_weights: Tensor
    score: Tensor
    is_fitted: Tensor

    def __init__(
        self,
        task: Task,
        base: Callable[[Task], SingleNetwork] = CrossEntropy,
        *,
        num_layers: int = 3,
        kept: float = 0.7,
        num_validation: int | None = None,
    ) -> None:
        super().__init__(task)
        self.base = base(task)
        self.num_epochs = self.base.num_epochs
        self.kept = kept
        self.num_validation = (5 if task.num_classes > 10 else 50) if num_validation is None else num_validation
        self.num_layers = min(num_layers, len(self.base.learner.network.stages))
        self.layers = nn.ModuleList(Gaussians(task.num_classes, width) for width in self._widths())
        self.register_buffer("layer_weights", torch.full((len(self.layers),), 1 / len(self.layers)))
        self.register_buffer("score", torch.zeros(task.num_samples))
        self.register_buffer("is_fitted", torch.tensor(0))

    @property
    def gaussians(self) -> list[Gaussians]:
        """The classifiers of the layers."""
        return [layer for layer in self.layers if isinstance(layer, Gaussians)]

    @torch.no_grad()
    def _widths(self) -> list[int]:
        self.base.learner.eval()
        with self.task.meter.paused():
            features = self._features_of(torch.zeros(1, *self.task.shape, device=self.task.device))
        self.base.learner.train()
        return [part.shape[1] for part in features]

    def begin_epoch(self, epoch: int) -> None:
        """Let the base."""
        self.base.begin_epoch(epoch)

    def batches(self) -> Iterable[Any]:
        """Return the base's."""
        return self.base.batches()

    def step(self, batch: Any) -> None:
        """Let the base."""
        self.base.step(batch)

    def end_epoch(self, epoch: int) -> None:
        """Fit the classifiers, after the last epoch and after those whose figures are averaged with its."""
        self.base.end_epoch(epoch)
        if epoch == self.num_epochs - 1:
            self.fit()
        elif epoch >= self.num_epochs - AVERAGED_EPOCHS:
            with self.task.meter.paused():
                self.fit()

    def fit(self) -> None:
        """Fit a classifier to each layer, and weigh the layers."""
        labels, features = self.task.labels, self._features()
        for layer, part in zip(self.gaussians, features, strict=True):
            layer.fit(part, labels, self.kept)
        self.score.copy_(self.gaussians[-1].scores(features[-1], labels))
        rows = self._validation_rows()
        probabilities = torch.stack([layer(part[rows]) for layer, part in zip(self.gaussians, features, strict=True)])
        self.layer_weights.copy_(best_weights(probabilities, labels[rows]))
        self.is_fitted.fill_(1)

    def _validation_rows(self) -> Tensor:
        labels = self.task.labels
        order = torch.randperm(len(labels)).to(labels.device)
        by_class = [order[labels[order] == label][: self.num_validation] for label in range(self.task.num_classes)]
        drawn = torch.cat(by_class)
        return drawn[self.score[drawn].argsort(descending=True)[: len(drawn) // 2]]

    @torch.no_grad()
    def _features(self) -> list[Tensor]:
        self.base.learner.eval()
        parts = [self._features_of(inputs) for inputs in self.task.scan_inputs()]
        self.base.learner.train()
        return [torch.cat(layer) for layer in zip(*parts, strict=True)]

    def _features_of(self, inputs: Tensor) -> list[Tensor]:
        learner: Learner = self.base.learner
        outputs = learner.stage_outputs(inputs)[-self.num_layers :]
        return [output.flatten(2).mean(dim=2) if output.ndim > 2 else output for output in outputs]

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the weighted mean of the classifiers, once there are any; before, the base's prediction."""
        if not self.is_fitted:
            return self.base.predict(inputs)
        features = self._features_of(inputs)
        probabilities = torch.stack([layer(part) for layer, part in zip(self.gaussians, features, strict=True)])
        return torch.einsum("l,lbc->bc", self.layer_weights.double(), probabilities).float()

    def clean_score(self) -> Tensor:
        """Return -(f-μ)ᵀ S⁻¹ (f-μ) for the given label, of the last layer: by this it selects."""
        return self.score


def best_weights(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Weigh layers so that their mean predicts labels well.

    Args:
        probabilities: (L, n, C).
        labels: (n,) int64.

    Returns:
        (L,), positive and summing to one.
    """
    own = probabilities.detach()[:, torch.arange(len(labels), device=labels.device), labels]  # (L, n)
    weights = torch.ones(len(own), dtype=own.dtype, device=own.device, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=WEIGHT_LR)
    for _ in range(WEIGHT_EPOCHS):
        order = torch.randperm(len(labels)).to(labels.device)
        for rows in torch.split(order, WEIGHT_BATCH_SIZE):
            optimizer.zero_grad()
            loss = -(weights.softmax(dim=0) @ own[:, rows] + 1e-10).log().mean()
            torch.autograd.backward(loss)
            optimizer.step()
    return weights.detach().softmax(dim=0)


def on_d2l(task: Task, *, num_layers: int = 3, kept: float = 0.7, num_validation: int | None = None) -> RoG:
    """Put RoG on a network that D2L trains."""
    return RoG(task, D2L, num_layers=num_layers, kept=kept, num_validation=num_validation)


METHODS: dict[str, MethodFactory] = {"rog": RoG, "rog-d2l": on_d2l}
