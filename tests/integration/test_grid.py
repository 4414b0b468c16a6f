"""Whatever users combine, against the NumPy reference: every batch, and what is known of every sample after it.

The order of the samples is that of the plain DataLoader with the same seeds. What the model says is recomputed by
matrix algebra from snapshots of its weights. P(clean) is the library's own: that of scikit-learn is compared
elsewhere; here it matters which losses it is made of, and what is made of it.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from hypothesis import example, given, settings
from integration.grid import NUM_CLASSES, Case, Net, Snapshot, cases, flat
from integration.reference import MISSING, Floats, Integers, LastAnswers, Mixed, Reference, Schedule, softmax
from torch import Tensor
from torch.utils.data import DataLoader

from mixnn_loader import MixNNDataLoader, MixNNLoss, MixNNTargets
from mixnn_loader.method.clean_probability import log_clean_posterior

EPOCHS = 4
TOLERANCE = 1e-5
DISTANCE_TOLERANCE = 1e-4  # two neighbors that are as near as each other may change places


@dataclass
class Step:
    """A batch, and the model that it was made with."""

    model: Snapshot
    inputs: Tensor
    targets: MixNNTargets


@dataclass
class Epoch:
    """An epoch as the library went through it, and what it then said of every sample."""

    model: Snapshot
    steps: list[Step]
    samples: dict[str, Tensor | None]
    record: dict[str, Any]


def check_case(case: Case) -> None:
    with torch.random.fork_rng(devices=[]):
        model = Net()
        torch.manual_seed(5)
        expected_order = plain_order(case)
        expected_state = torch.get_rng_state()
        torch.manual_seed(5)
        epochs = train(case, model)
        assert torch.equal(torch.get_rng_state(), expected_state)
    order = [[step.targets.indices.tolist() for step in epoch.steps] for epoch in epochs]
    assert order == expected_order
    checker = Checker(case)
    for number, epoch in enumerate(epochs):
        if epoch.steps:
            checker.check_epoch(number, epoch)


def plain_order(case: Case) -> list[list[list[int]]]:
    """The indices that the plain loader draws, by epoch and batch."""
    loader = case.loader(torch.arange(case.num_samples))
    batches = [[batch[0] if case.custom_collate else batch for batch in loader] for _ in range(EPOCHS)]
    return [[indices.tolist() for indices in epoch] for epoch in batches]


def train(case: Case, model: Net) -> list[Epoch]:
    """The user's loop, with everything written down. Batches are kept, not copied: they must not change."""
    criterion = MixNNLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    unpack = case.unpack if case.custom_collate else ("image", "label") if case.kind == "mappings" else None
    loader = MixNNDataLoader(case.loader(case.dataset()), model, unpack=unpack, **case.settings)
    epochs = []
    for _ in range(EPOCHS):
        at_start, steps = Snapshot.of(model), []
        for inputs, targets in loader:
            steps.append(Step(Snapshot.of(model), flat(inputs), targets))
            loss = criterion(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        record = loader.history[-1] if steps else {}  # without a batch, nothing has been trained: it is no epoch
        epochs.append(Epoch(at_start, steps, loader.state_dict()["samples"], record))
    return epochs


def make_reference(case: Case) -> Reference:
    """Over the samples as the plain loader gives them."""
    collate = case.loader(case.dataset()).collate_fn
    (batch,) = DataLoader(case.dataset(), batch_size=case.num_samples, collate_fn=collate)
    inputs, labels = case.unpack(batch)
    assert torch.equal(flat(inputs), case.inputs)
    assert torch.equal(labels, case.labels)
    return Reference(
        case.inputs.double().numpy(),
        case.labels.numpy(),
        NUM_CLASSES,
        case.num_neighbors,
        case.warmup_epochs,
        case.correction_epoch,
        case.momentum,
        uniform=case.weighting == "uniform",
    )


class Checker:
    """Follows a run of `case` epoch by epoch."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.members = case.members
        self.reference = make_reference(case)
        self.schedule = Schedule(case.scan == "running", case.scan_every)
        self.seen: set[int] = set()  # samples whose label the library has met
        self.known = LastAnswers(np.full(case.num_samples, np.nan), np.zeros((case.num_samples, 8)))
        self.log_posteriors = np.full(case.num_samples, np.nan)
        self.pool = np.full((case.num_samples, self._pool_size()), -1)

    def check_epoch(self, number: int, epoch: Epoch) -> None:
        warm = number < self.case.warmup_epochs
        if not warm:
            self._begin(number - self.case.warmup_epochs, epoch)
        pairs: Counter[bool] = Counter()
        for step in epoch.steps:
            indices = step.targets.indices.numpy()
            self.seen.update(indices.tolist())
            expected = self.reference.warmup_batch(indices) if warm else self._expect(number, step)
            check_step(step, expected, self.reference)
            pairs.update(self._same_label(indices, expected.neighbors))
        self._check_samples(epoch.samples)
        share = pairs[True] / pairs.total() if pairs else None
        assert_close(epoch.record["same_label_share"], share)
        late = self.case.correction_epoch is not None and number >= self.case.correction_epoch
        assert epoch.record["epoch"] == number
        assert epoch.record["phase"] == ("warm-up" if warm else "correction" if late else "mixing")

    def _begin(self, past_warmup: int, epoch: Epoch) -> None:
        """Steps 1 to 3."""
        scans = self.schedule.scans(past_warmup)
        assert epoch.record["scan"] == ("epoch" if scans else "running" if self.schedule.running else None)
        if scans:
            logits, representations = epoch.model.answer(self.reference.samples)
            everyone = np.arange(self.case.num_samples)
            self.known = LastAnswers(self.reference.given_label_losses(logits, everyone), representations)
            self.known.losses[np.isin(everyone, self.members, invert=True)] = np.nan
            self.seen.update(self.members.tolist())
        log_posteriors, pool = epoch.samples["log_clean_probability"], epoch.samples["neighbor_pool"]
        assert log_posteriors is not None
        assert pool is not None
        if scans or self.schedule.running:
            self._check_posteriors(log_posteriors)
            self.log_posteriors = log_posteriors.double().numpy()
        if self._searches() and (scans or (self.schedule.running and self.schedule.every is None)):
            self._check_pool(pool.numpy())
            self.pool = pool.numpy()

    def _check_posteriors(self, log_posteriors: Tensor) -> None:
        expected, _ = log_clean_posterior(torch.from_numpy(self.known.losses[self.members]))
        assert_close(log_posteriors[self.members].exp(), expected.exp(), tolerance=1e-3)
        others = np.setdiff1d(np.arange(self.case.num_samples), self.members)
        assert log_posteriors[others].isnan().all()

    def _check_pool(self, pool: Integers) -> None:
        for i in self.members.tolist():
            assert len(set(pool[i].tolist())) == len(pool[i])
            check_nearest(pool[i], i, self.members, self.known.representations[self.members])

    def _expect(self, number: int, step: Step) -> Mixed:
        """Step 4, for the neighbors that were drawn and for λ where it is random: both only have to keep laws."""
        indices = step.targets.indices.numpy()
        logits, representations = step.model.answer(self.reference.samples[indices])
        if self.schedule.running:
            losses = self.reference.given_label_losses(logits, indices)
            collects = self._searches() and self.schedule.every is None
            self.known.take(indices, losses, representations if collects else None)
        self.reference.correct(number, indices, softmax(logits))
        neighbors = self._neighbors(step, representations)
        own_weights = step.targets.weights[:, 0].double().numpy()
        rows = zip(indices.tolist(), neighbors, own_weights, strict=True)
        return self.reference.mix(indices, neighbors, np.stack([self._weights(*row) for row in rows]))

    def _weights(self, i: int, neighbors: Integers, own_weight: float) -> Floats:
        """λ and β of one sample (K + 1,)."""
        found = neighbors != MISSING
        if self.case.weighting == "beta" and found.any():
            assert 0 <= own_weight <= 1
            return np.array([own_weight, *found * (1 - own_weight) / found.sum()])
        # In units of the largest P among them, which Eq. 10 and 11 don't depend on: none is too small for a float.
        largest = self.log_posteriors[[i, *neighbors[found]]].max()
        return self.reference.weights(i, neighbors, np.exp(np.minimum(self.log_posteriors - largest, 0)))

    def _neighbors(self, step: Step, representations: Floats) -> Integers:
        """The batch's neighbors (B, K), found to be right, with MISSING for those that there are not."""
        drawn, batch = step.targets.neighbors.numpy().copy(), step.targets.indices.numpy()
        for row, i in zip(drawn, batch.tolist(), strict=True):
            match self.case.neighbors:
                case "dataset":
                    check_drawn(row, Counter(self.pool[i].tolist()))
                    if len(row) == self.pool.shape[1]:
                        assert row.tolist() == self.pool[i].tolist()
                case "random":
                    check_drawn(row, Counter(set(self.members.tolist()) - {i}))
                case _:
                    others = batch[batch != i]
                    row[len(others) :] = MISSING
                    found = row[row != MISSING]
                    check_drawn(found, Counter(others.tolist()))
                    if self.case.neighbors == "batch":
                        check_nearest(found, i, batch, representations)
        return drawn

    def _same_label(self, indices: Integers, neighbors: Integers) -> list[bool]:
        """Of every pair of a sample and a neighbor, whether both have the same label."""
        labels = self.reference.labels
        pairs = [(i, k) for i, row in zip(indices, neighbors, strict=True) for k in row if k != MISSING]
        return [bool(labels[i] == labels[k]) for i, k in pairs]

    def _check_samples(self, samples: dict[str, Tensor | None]) -> None:
        seen = np.isin(np.arange(self.case.num_samples), list(self.seen))
        assert_close(samples["given_labels"], np.where(seen, self.reference.labels, -1))
        assert_close(samples["losses"], self.known.losses)
        assert_close(samples["log_clean_probability"], self.log_posteriors)
        assert_close(samples["neighbor_pool"], self.pool)
        if seen.any():
            assert_close(samples["soft_targets"], seen[:, None] * self.reference.soft_targets)

    def _searches(self) -> bool:
        return self.case.neighbors == "dataset" and self.case.num_neighbors > 0

    def _pool_size(self) -> int:
        return self.case.num_neighbors if self.case.neighbor_pool is None else self.case.neighbor_pool


def check_step(step: Step, expected: Mixed, reference: Reference) -> None:
    targets = step.targets
    assert_close(targets.labels, reference.labels[targets.indices.numpy()])
    assert targets.neighbors.shape == expected.neighbors.shape
    assert_close(targets.weights, expected.weights)
    assert_close(targets.mixed, expected.targets)
    assert_close(step.inputs, expected.inputs)
    present = expected.weights > 0
    assert_close(targets.soft_targets[torch.from_numpy(present)], expected.soft_targets[present])


def check_drawn(row: Integers, others: Counter[int]) -> None:
    """The neighbors (k,) are among ``others``, none more often than there."""
    assert Counter(row.tolist()) <= others


def check_nearest(row: Integers, i: int, candidates: Integers, representations: Floats) -> None:
    """The neighbors (k,) of sample ``i`` are as near as the k nearest of the candidates (n,), nearest first."""
    own = representations[candidates.tolist().index(i)]
    distance = {
        int(j): float(np.linalg.norm(other - own)) for j, other in zip(candidates, representations, strict=True)
    }
    nearest = sorted(distance[int(j)] for j in candidates if j != i)[: len(row)]
    assert_close([distance[int(j)] for j in row], nearest, tolerance=DISTANCE_TOLERANCE)


def assert_close(actual: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    if expected is None:
        assert actual is None
        return
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=0, atol=tolerance)


IN_BATCH = Case(neighbors="batch", num_neighbors=4, correction_epoch=1)
RUNNING = Case(scan="running", warmup_epochs=0, correction_epoch=0)


@settings(deadline=None, max_examples=15)
@given(cases())
@example(replace(IN_BATCH, batch_size=1))  # nobody to mix with
@example(replace(IN_BATCH, sampling="weighted", num_samples=10, batch_size=7))  # a sample twice, few others
@example(replace(IN_BATCH, neighbors="random-batch", sampling="uneven batches", weighting="beta"))
@example(replace(IN_BATCH, scan="running", drop_last=True, kind="mappings of inputs", custom_collate=True))
@example(replace(RUNNING, num_samples=22, sampling="weighted"))  # some not drawn in an epoch, others twice
@example(replace(RUNNING, sampling="weighted, without replacement", neighbor_pool=6, num_neighbors=2))
@example(replace(RUNNING, scan_every=2, sampling="subset", own_generator=False, drop_last=True, batch_size=7))
@example(replace(RUNNING, batch_size=50, drop_last=True, own_generator=False))  # epochs without a batch
@example(Case(warmup_epochs=EPOCHS, sampling="weighted"))  # never past warm-up
@example(Case(num_neighbors=0, neighbor_pool=6, warmup_epochs=0, momentum=0.0))
@example(Case(num_neighbors=4, scan_every=3, warmup_epochs=0, correction_epoch=0, momentum=1.0))
def test_any_combination(case: Case) -> None:
    check_case(case)


@settings(deadline=None, max_examples=1)
@given(cases(num_workers=2))
@example(replace(RUNNING, num_workers=2, persistent_workers=True, own_generator=False))
def test_any_combination_with_workers(case: Case) -> None:
    check_case(case)
