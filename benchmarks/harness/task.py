"""What a method is given: noisy training data, networks, and how to train them. It is the same for all methods."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader, Dataset, Subset

from benchmarks.harness.batches import Batches, IndexedSamples, as_batch
from benchmarks.harness.cost import Meter
from benchmarks.harness.learner import Learner
from benchmarks.harness.networks import NETWORKS, Network
from benchmarks.harness.recipes import Recipe
from benchmarks.harness.schedules import factor
from mixnn_loader.datasets.balanced import ClassBalancedBatchSampler

SCAN_BATCH_SIZE = 500


class Scan(NamedTuple):
    """What a network says of all training samples, without augmentation, in eval mode.

    Attributes:
        logits: (N, C) float32.
        representations: (N, d) float32.
    """

    logits: Tensor
    representations: Tensor


class Task:
    """The task, alike for all methods: the same noise, initial weights, order of samples and number of epochs.

    True labels are not in it.

    Args:
        train: (inputs, given label), with the augmentation of training.
        scan: the same samples without augmentation.
        labels: (N,) int64, the given labels.
        num_classes: C.
        shape: of an input.
        recipe: network, schedule, length of a plain training and so on.
        noise_rate: nominal, for methods that choose published settings by it.
        seed: of weights and order.
        device: where to train.
        wrong_share: the expected share of wrong labels, for methods that leave out so many; None: ``noise_rate``. It is
            less where a label may be redrawn as it was, or where some classes keep theirs.

    Attributes:
        labels: (N,) int64 on the device, the given labels.
        meter: counts what the networks compute.
    """

    def __init__(
        self,
        train: Dataset[tuple[Tensor, int]],
        scan: Dataset[tuple[Tensor, int]],
        labels: Tensor,
        num_classes: int,
        shape: Sequence[int],
        recipe: Recipe,
        noise_rate: float,
        seed: int,
        device: torch.device,
        wrong_share: float | None = None,
    ) -> None:
        self.train, self.scan_data = train, scan
        self.labels = labels.to(device)
        self.num_classes, self.shape = num_classes, tuple(shape)
        self.recipe, self.num_epochs, self.noise_rate = recipe, recipe.epochs, noise_rate
        self.wrong_share = noise_rate if wrong_share is None else wrong_share
        self.seed, self.device = seed, device
        self.meter = Meter()
        self._orders: dict[int, torch.Generator] = {}
        self._part = 0

    def begin_epoch(self, epoch: int) -> None:
        """Set all orders to those of an epoch, so that a run that is resumed there has the same."""
        self._part = 1 + epoch
        for stream, generator in self._orders.items():
            generator.manual_seed(_seed(self.seed, stream, self._part))

    @property
    def num_samples(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def epoch_size(self) -> int:
        """Samples that an epoch of all training data draws: N, or what the recipe's balanced batches hold."""
        batches = self.recipe.balanced_batches
        return self.num_samples if batches is None else batches * self.recipe.batch_size

    @property
    def warmup_epochs(self) -> int:
        """W, where the training is long enough for it, else a third of it."""
        return min(self.recipe.warmup_epochs, self.num_epochs // 3)

    @property
    def correction_epoch(self) -> int:
        """E_s, where the training is long enough for it, else after two thirds of it."""
        return min(self.recipe.correction_epoch, self.num_epochs * 2 // 3)

    def epochs_of(self, published: float, published_total: float) -> int:
        """Scale a published number of epochs to this length of training, to one at least.

        Args:
            published: such as 40, the epoch at which something starts.
            published_total: such as 120, of how many.
        """
        return max(1, round(published / published_total * self.num_epochs))

    def one_hot(self, labels: Tensor) -> Tensor:
        """Encode class indices (B,) as (B, C) float32."""
        return nn.functional.one_hot(labels, self.num_classes).float()

    # ------------------------------------------------------------------------------------------ networks

    def network(self, *, member: int = 0, num_outputs: int | None = None) -> Network:
        """Build a network.

        Args:
            member: networks of the same number start from the same weights, in all methods.
            num_outputs: width of the head; None: C.
        """
        with torch.random.fork_rng():
            torch.manual_seed(_seed(self.seed, member))
            network = NETWORKS[self.recipe.network](self.shape, num_outputs or self.num_classes)
        network.meter = self.meter
        network.to(self.device)
        return network.to(memory_format=torch.channels_last)

    def learner(
        self,
        *,
        member: int = 0,
        num_outputs: int | None = None,
        num_epochs: int | None = None,
        lr: float | None = None,
        schedule: str | None = None,
    ) -> Learner:
        """Build a network with optimizer and schedule of the recipe.

        Args:
            member: see `network`.
            num_outputs: see `network`.
            num_epochs: over which the learning rate falls; None: a plain training's.
            lr: learning rate at the start; None: the recipe's.
            schedule: of the learning rate; None: the recipe's.
        """
        network = self.network(member=member, num_outputs=num_outputs)
        optimizer = self.optimizer(network.parameters(), lr=lr)
        scheduler = self.scheduler(optimizer, num_epochs=num_epochs, schedule=schedule)
        return Learner(network, optimizer, scheduler, bfloat16=self.recipe.bfloat16)

    def optimizer(self, parameters: Iterable[nn.Parameter], *, lr: float | None = None) -> Optimizer:
        """Build the recipe's optimizer."""
        recipe = self.recipe
        return SGD(parameters, recipe.lr if lr is None else lr, recipe.momentum, weight_decay=recipe.weight_decay)

    def scheduler(
        self, optimizer: Optimizer, *, num_epochs: int | None = None, schedule: str | None = None
    ) -> LRScheduler:
        """Build the recipe's schedule of the learning rate, a step an epoch."""
        name, length = schedule or self.recipe.schedule, num_epochs or self.num_epochs
        return LambdaLR(optimizer, lambda epoch: factor(name, min(epoch, length), length))

    # ------------------------------------------------------------------------------------------ data

    def batches(
        self,
        *,
        num_views: int = 1,
        subset: Tensor | None = None,
        batch_size: int | None = None,
        stream: int = 0,
    ) -> Batches:
        """Make a loader of shuffled, augmented batches.

        Args:
            num_views: augmentations of each sample.
            subset: (n,) indices of the samples to load; None: all.
            batch_size: samples a batch; None: the recipe's.
            stream: sets the order apart from that of other loaders; 0 is the order of all methods. Loaders of one
                stream must not be iterated at the same time.
        """
        data, labels = IndexedSamples(self.train, num_views), self.labels
        if subset is None:
            return self._shuffled(data, labels, batch_size, stream, as_batch)
        return self._shuffled(Subset(data, subset.tolist()), labels[subset], batch_size, stream, as_batch)

    def plain_loader(self) -> DataLoader[list[Tensor]]:
        """Make the loader that a user would have: (inputs, labels), in the order of all methods."""
        return self._shuffled(self.train, self.labels, None, 0, None)

    def _shuffled(
        self,
        data: Dataset[Any],
        labels: Tensor,
        batch_size: int | None,
        stream: int,
        collate: Callable[[Any], Any] | None,
    ) -> DataLoader[Any]:
        size, order = batch_size or self.recipe.batch_size, self._order(stream)
        settings: dict[str, Any] = {
            "generator": order,
            "collate_fn": collate,
            "num_workers": self.recipe.workers,
        }
        if self.recipe.balanced_batches is None:
            return DataLoader(data, size, shuffle=True, **settings)
        # Of few samples, such as those that a method has selected, not more than each of them once.
        num_batches = -(-min(self.epoch_size, len(labels)) // size)
        batches = ClassBalancedBatchSampler(labels, size, num_batches, generator=order)
        return DataLoader(data, batch_sampler=batches, **settings)

    def _order(self, stream: int) -> torch.Generator:
        if stream not in self._orders:
            # Of the epoch in progress: a run that is resumed there makes a stream anew that another has had for long.
            self._orders[stream] = torch.Generator().manual_seed(_seed(self.seed, stream, self._part))
        return self._orders[stream]

    def scan_inputs(self, subset: Tensor | None = None) -> Iterator[Tensor]:
        """Load training samples without augmentation, in the order of their indices, on the device.

        Args:
            subset: (n,) indices, in which order they come; None: all.
        """
        data = self.scan_data if subset is None else Subset(self.scan_data, subset.tolist())
        for inputs, _ in DataLoader(data, SCAN_BATCH_SIZE, num_workers=self.recipe.workers):
            yield inputs.to(self.device)

    @torch.no_grad()
    def scan(self, learner: Learner, subset: Tensor | None = None) -> Scan:
        """Ask a network about training samples, without augmentation and in eval mode.

        Args:
            learner: whose network it is; its flags are as before afterwards.
            subset: see `scan_inputs`.
        """
        was_training = learner.training
        learner.eval()
        parts = [learner.logits_and_representations(inputs) for inputs in self.scan_inputs(subset)]
        learner.train(was_training)
        logits, representations = zip(*parts, strict=True)
        return Scan(torch.cat(logits), torch.cat(representations))


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
