"""Training in several processes: every one of them knows what a single one would know."""

import copy
import io
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from integration.processes import results_of, run_in_processes
from integration.reference import cross_entropies, one_hot, softmax
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler
from toy import NUM_CLASSES, Points, mlp, tensors_of

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes
from mixnn_loader._utils.processes import Processes
from mixnn_loader.run.columns import Layout
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.share_rows import average_rows

NUM_SAMPLES = 41  # two processes get 21 samples each, three get 14: one sample is drawn twice
EPOCHS = 4
SETTINGS: dict[str, Any] = {"warmup_epochs": 1, "correction_epoch": 2, "momentum": 0.7, "num_neighbors": 2}


class Rank:
    """One process's training: its model in DistributedDataParallel, its part of the data."""

    def __init__(self, **settings: Any) -> None:
        rank = dist.get_rank()
        torch.manual_seed(rank)  # dropout differs
        self.model = DistributedDataParallel(mlp())
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        points = Points(NUM_SAMPLES)
        plain = DataLoader(points, batch_size=8, sampler=DistributedSampler(points, seed=5))
        self.loader = MixNNDataLoader(plain, self.model, **(SETTINGS | settings))

    def epoch(self, epoch: int) -> Iterator[dict[str, Any]]:
        """Train; after every step, say what was in the batch, and what the model thought of it before the step."""
        self.loader.set_epoch(epoch)
        for inputs, targets in self.loader:
            batch = {"logits": eval_logits(self.model.module, targets.indices), **tensors_of(targets)}
            loss = MixNNLoss()(self.model(inputs), targets)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            yield {name: value.clone() for name, value in batch.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return a checkpoint."""
        parts: dict[str, Any] = {"loader": self.loader, "model": self.model, "optimizer": self.optimizer}
        return {"random": torch.get_rng_state(), **{name: part.state_dict() for name, part in parts.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.loader.load_state_dict(state["loader"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])

    def knows(self) -> dict[str, Any]:
        """Copy what the loader says of all samples."""
        loader = self.loader
        names = ("given_labels", "losses", "clean_probability", "soft_targets", "neighbor_indices")
        history = [{k: v for k, v in entry.items() if not k.endswith("seconds")} for entry in loader.history]
        return {"history": history, **{name: getattr(loader, name).clone() for name in names}}


def eval_logits(model: nn.Module, rows: Tensor) -> Tensor:
    """Ask a copy of the model, in eval mode, of some samples."""
    with torch.no_grad():
        logits: Tensor = copy.deepcopy(model).eval()(Points(NUM_SAMPLES).inputs[rows])
        return logits


def train(rank: int, size: int, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return, of every epoch, the model before it, its batches, and what was known at its start and end."""
    del rank, size
    training, epochs = Rank(**settings), []
    for epoch in range(EPOCHS):
        model = copy.deepcopy(training.model.module.state_dict())
        batches, at_start = [], None
        for batch in training.epoch(epoch):
            at_start = at_start or training.knows()
            batches.append(batch)
        epochs.append({"model": model, "batches": batches, "start": at_start, "end": training.knows()})
    return epochs


def assert_same(first: Any, second: Any) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)


def assert_all_know_the_same(ranks: list[dict[str, Any]]) -> None:
    for other in ranks[1:]:
        assert other["history"] == ranks[0]["history"]
        for name, rows in ranks[0].items():
            if name != "history":
                assert_same(other[name], rows)


def alone(model: dict[str, Any], settings: dict[str, Any]) -> MixNNDataLoader:
    """A single process's loader, at the start of its first epoch after warm-up, with a model of the given weights."""
    net = mlp()
    net.load_state_dict(model)
    loader = MixNNDataLoader(Points(NUM_SAMPLES), net, batch_size=8, **(SETTINGS | settings | {"warmup_epochs": 0}))
    next(iter(loader))
    return loader


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        (2, {}),
        (3, {}),
        (3, {"credibility": "vote"}),
        (2, {"credibility": "vote", "feature_layer": recipes.by_inputs}),  # votes that stand
    ],
)
def test_posteriors_and_neighbors_are_those_of_a_single_process(
    tmp_path: Path, size: int, settings: dict[str, Any]
) -> None:
    ranks = results_of(partial(train, settings=settings), size, tmp_path)
    for epoch in range(1, EPOCHS):
        single = alone(ranks[0][epoch]["model"], settings)
        for rank in ranks:
            at_start = rank[epoch]["start"]
            assert torch.equal(at_start["neighbor_indices"], single.neighbor_indices)
            torch.testing.assert_close(at_start["clean_probability"], single.clean_probability, rtol=0, atol=1e-6)
            torch.testing.assert_close(at_start["losses"], single.losses, rtol=0, atol=1e-6)
    for epoch in range(EPOCHS):
        drawn = torch.cat([batch["indices"] for rank in ranks for batch in rank[epoch]["batches"]])
        assert len(drawn) == NUM_SAMPLES + 1
        assert set(drawn.tolist()) == set(range(NUM_SAMPLES))
        assert_all_know_the_same([rank[epoch]["end"] for rank in ranks])
    # The statistics of BatchNorm differ between processes: each scans with those of the first.
    running = [rank[2]["model"]["body.1.running_mean"] for rank in ranks]
    assert not torch.equal(running[0], running[1])


def expected_targets(ranks: list[list[dict[str, Any]]], last: int) -> np.ndarray:
    """Eq. 12 in NumPy: each process moves what it draws, and then the mean of those who moved a sample counts."""
    targets = one_hot(Points(NUM_SAMPLES).labels.numpy(), NUM_CLASSES)
    for epoch in range(SETTINGS["correction_epoch"], last + 1):
        moved: dict[int, list[np.ndarray]] = {}
        for rank in ranks:
            own = targets.copy()
            for batch in rank[epoch]["batches"]:
                for index, row in zip(
                    batch["indices"].tolist(), softmax(batch["logits"].double().numpy()), strict=True
                ):
                    own[index] = 0.7 * own[index] + 0.3 * row
            for index in {i for batch in rank[epoch]["batches"] for i in batch["indices"].tolist()}:
                moved.setdefault(index, []).append(own[index])
        for index, rows in moved.items():
            targets[index] = np.mean(rows, axis=0)
    return targets


@pytest.mark.parametrize("size", [2, 3])
def test_soft_targets_are_averaged_over_those_who_moved_them(tmp_path: Path, size: int) -> None:
    ranks = results_of(partial(train, settings={"neighbors": "batch"}), size, tmp_path)
    for epoch in range(EPOCHS):
        assert_all_know_the_same([rank[epoch]["end"] for rank in ranks])
        actual = ranks[0][epoch]["end"]["soft_targets"].double().numpy()
        np.testing.assert_allclose(actual, expected_targets(ranks, epoch), atol=1e-5)
    assert all(torch.equal(rank[0]["end"]["given_labels"], Points(NUM_SAMPLES).labels) for rank in ranks)


@pytest.mark.parametrize("settings", [{}, {"neighbors": "batch"}], ids=["dataset", "batch"])
def test_a_running_scan_is_of_what_all_processes_drew(tmp_path: Path, settings: dict[str, Any]) -> None:
    ranks = results_of(partial(train, settings={"scan": "running", **settings}), 2, tmp_path)
    labels = one_hot(Points(NUM_SAMPLES).labels.numpy(), NUM_CLASSES)
    for epoch in (2, 3):
        losses = np.full(NUM_SAMPLES, np.nan)
        for rank in reversed(ranks):  # the lowest counts
            for batch in rank[epoch - 1]["batches"]:
                rows = batch["indices"].numpy()
                losses[rows] = cross_entropies(batch["logits"].double().numpy(), labels[rows])
        for rank in ranks:
            np.testing.assert_allclose(rank[epoch - 1]["end"]["losses"].numpy(), losses, atol=1e-5)
        assert_all_know_the_same([rank[epoch]["end"] for rank in ranks])


def small(rank: int, size: int) -> dict[str, Any]:
    """One batch to scan: one process has nothing to do."""
    del rank, size
    points = Points(8)
    plain = DataLoader(points, batch_size=8, sampler=DistributedSampler(points))
    loader = MixNNDataLoader(plain, mlp(), warmup_epochs=0, correction_epoch=0)
    for _ in loader:
        pass
    return {"targets": loader.soft_targets, "neighbors": loader.neighbor_indices, "P": loader.clean_probability}


def test_fewer_batches_than_processes(tmp_path: Path) -> None:
    first, second = results_of(small, 2, tmp_path)
    single = MixNNDataLoader(Points(8), mlp(), warmup_epochs=0, correction_epoch=0, batch_size=8)
    list(single)
    for rank in (first, second):
        torch.testing.assert_close(rank["targets"], single.soft_targets)
        assert torch.equal(rank["neighbors"], single.neighbor_indices)
        assert torch.equal(rank["P"], single.clean_probability)


def stopped_and_resumed(rank: int, size: int, within: bool, settings: dict[str, Any]) -> None:
    """Train, and go on in new objects: within the third epoch with each process's own state, after it with one."""
    del size
    whole = Rank(**settings)
    batches: list[dict[str, Any]] = []
    checkpoint, place = io.BytesIO(), 0
    for epoch in range(EPOCHS):
        for number, batch in enumerate(whole.epoch(epoch)):
            batches.append(batch)
            if within and (epoch, number) == (2, 1):
                torch.save(whole.state_dict(), checkpoint)
                place = len(batches)
        if not within and epoch == 2:
            torch.save(whole.state_dict(), checkpoint)
            place = len(batches)
    expected = whole.knows()

    again = Rank(**settings)
    checkpoint.seek(0)
    state = torch.load(checkpoint, weights_only=True)
    if not within:  # the first process's alone
        state["loader"] = broadcast(state["loader"] if rank == 0 else None)
    again.load_state_dict(state)
    rest = [batch for epoch in range(again.loader.epoch, EPOCHS) for batch in again.epoch(epoch)]
    assert len(rest) == len(batches) - place > 0
    assert_same(rest, batches[place:])
    assert_all_know_the_same([again.knows(), expected])


def broadcast(state: dict[str, Any] | None) -> dict[str, Any]:
    """Send the first process's state to all."""
    states: list[Any] = [state]
    dist.broadcast_object_list(states)
    loaded: dict[str, Any] = states[0]
    return loaded


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize(
    "settings", [{}, {"scan": "running"}, recipes.robust(epochs=EPOCHS)], ids=["epoch", "running", "robust"]
)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, within: bool, settings: dict[str, Any]) -> None:
    results_of(partial(stopped_and_resumed, within=within, settings=settings), 2, tmp_path)


def left_early(rank: int, size: int) -> dict[str, Any]:
    """One process leaves the third epoch after its first batch, and starts the next like the others."""
    del size
    training = Rank(neighbors="batch")
    for epoch in range(EPOCHS):
        for number, _ in enumerate(training.loader):
            if rank == 1 and epoch == 2 and number == 0:
                break
    return training.knows()


def test_one_process_leaves_an_epoch_early(tmp_path: Path) -> None:
    assert_all_know_the_same(results_of(left_early, 3, tmp_path))


def die(rank: int, size: int, when: str) -> None:
    del size
    training = Rank()
    for epoch in range(EPOCHS):
        for _ in training.loader:  # no step: the others wait in the loader's calls, not in DistributedDataParallel's
            if rank == 1 and epoch == 1 and when == "batches":
                os._exit(7)
        if rank == 1 and epoch == 0 and when == "scan":
            os._exit(7)


@pytest.mark.parametrize("when", ["batches", "scan"])
def test_a_process_that_dies_ends_the_others(tmp_path: Path, when: str) -> None:
    outcomes = run_in_processes(partial(die, when=when), 3, tmp_path, timeout=20)
    assert outcomes[1][0] == 7
    for rank in (0, 2):
        exit_code, _, error = outcomes[rank]
        assert exit_code == 1
        assert "did not come to MixNN's exchange at the start or end of an epoch: one has ended" in error


def other_epochs(rank: int, size: int) -> None:
    del size
    training = Rank()
    training.loader.set_epoch(rank)
    with pytest.raises(RuntimeError, match=r"the epoch must be the same on all processes, got \[0, 1\] by rank; .*"):
        next(iter(training.loader))


def other_arguments(rank: int, size: int) -> None:
    del size
    training = Rank(momentum=0.5 + rank / 4)
    with pytest.raises(RuntimeError, match=r"the checksum of the arguments must be the same .*; give all .* the same"):
        next(iter(training.loader))


def other_lengths(rank: int, size: int) -> None:
    del size
    loader = MixNNDataLoader(
        DataLoader(Points(), batch_size=8, sampler=RandomSampler(Points(), num_samples=8 + 8 * rank)), mlp()
    )
    with (
        pytest.warns(UserWarning, match="draws the whole"),
        pytest.raises(RuntimeError, match=r"number of batches an epoch .* got \[1, 2\]"),
    ):
        next(iter(loader))


def resumed_by_one(rank: int, size: int) -> None:
    """One process goes on within an epoch that the other has left early."""
    del size
    training = Rank()
    batches = iter(training.loader)
    next(batches)
    if rank == 0:
        training.loader.load_state_dict(training.loader.state_dict())
    batches = iter(training.loader)
    with pytest.raises(RuntimeError, match=r"must be the same on all processes, got .* resume epochs on all"):
        next(batches)


@pytest.mark.parametrize("function", [other_epochs, other_arguments, other_lengths, resumed_by_one])
def test_processes_that_are_not_at_the_same_place(tmp_path: Path, function: Callable[[int, int], None]) -> None:
    results_of(function, 2, tmp_path)


def broken_off_alone(rank: int, size: int, state: dict[str, Any]) -> dict[str, Any]:
    """Go on in several processes from one that left an epoch early."""
    del rank, size
    training = Rank(correction_epoch=0)
    training.loader.load_state_dict(state)
    for _ in range(2):
        list(training.loader)
    return training.knows()


def test_several_go_on_from_one_that_left_early(tmp_path: Path) -> None:
    loader = MixNNDataLoader(Points(NUM_SAMPLES), mlp(), batch_size=8, **(SETTINGS | {"correction_epoch": 0}))
    for _ in range(2):
        for number, _ in enumerate(loader):
            if number == 4:
                break  # after four of six
    share = loader.history[-1]["same_label_share"]
    with_many = results_of(partial(broken_off_alone, state=loader.state_dict()), 2, tmp_path)
    assert_all_know_the_same(with_many)
    assert with_many[0]["history"][1]["same_label_share"] == share


def short_length(rank: int, size: int) -> dict[str, Any]:
    """The batch sampler says that it has fewer batches than it gives."""

    class More(BatchSampler):
        def __len__(self) -> int:
            return 1

    sampler: DistributedSampler[Any] = DistributedSampler(Points(), size, rank)
    plain = DataLoader(Points(), batch_sampler=More(sampler, 8, drop_last=False))
    loader = MixNNDataLoader(plain, mlp(), warmup_epochs=0, correction_epoch=0)
    list(loader)
    return {"history": [], "soft_targets": loader.soft_targets}


@pytest.mark.filterwarnings("ignore:Length of IterableDataset")
def test_batches_after_the_last_count(tmp_path: Path) -> None:
    first, second = results_of(short_length, 2, tmp_path)
    assert_all_know_the_same([first, second])
    assert (first["soft_targets"].max(dim=1).values < 1).all()


def averaged(rank: int, size: int) -> Tensor:
    """Train by the robust recipe; return the averages of predictions that each process has at the end."""
    del rank, size
    training = Rank(**recipes.robust(epochs=EPOCHS))
    for epoch in range(2):
        for _ in training.epoch(epoch):
            pass
    averages: Tensor = training.loader.state_dict()["samples"]["averages"]
    return averages


def test_averages_of_predictions_are_shared(tmp_path: Path) -> None:
    first, *others = results_of(averaged, 2, tmp_path)
    # Two epochs of three batches each, whose last says nothing.
    assert (first.sum(dim=1) > 0).float().mean() > 0.8
    for other in others:
        assert_same(other, first)


def half_precision(rank: int, size: int) -> Tensor:
    """Average targets that all processes agree on, many times."""
    del rank
    table = SampleTable(Layout(num_samples=50, pool_size=1, target_dtype=torch.bfloat16))
    table.set_num_classes(4)
    table.soft_targets.copy_(torch.rand(50, 4, generator=torch.Generator().manual_seed(1)))
    before, everyone = table.soft_targets.clone(), torch.arange(50)
    for _ in range(20):
        average_rows(table.soft_targets, [everyone] * size, Processes())
    change: Tensor = table.soft_targets - before
    return change


def test_agreement_is_not_rounded_away(tmp_path: Path) -> None:
    for change in results_of(half_precision, 3, tmp_path):
        assert not change.any()


def not_divided(rank: int, size: int) -> None:
    del rank, size
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8, shuffle=True)
    with pytest.warns(UserWarning, match=r"each of 2 processes draws the whole dataset.*DistributedSampler"):
        list(loader)
    for _ in range(2):
        list(loader)  # told once


def test_data_that_is_not_divided_is_warned_of(tmp_path: Path) -> None:
    results_of(not_divided, 2, tmp_path)


def another_part(rank: int, size: int) -> None:
    points = Points()
    plain = DataLoader(points, batch_size=8, sampler=DistributedSampler(points, size, rank=0))
    loader = MixNNDataLoader(plain, mlp())
    if rank == 0:
        list(loader)
        return
    with pytest.warns(UserWarning, match=r"draws the part of process 0, and this is process 1: .* pass rank="):
        list(loader)


def test_the_part_of_another_process_is_warned_of(tmp_path: Path) -> None:
    results_of(another_part, 2, tmp_path)
