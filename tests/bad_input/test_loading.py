"""Datasets, collate functions and workers that fail, or do something else than they should."""

import multiprocessing
import os
import signal
import time
from typing import Any

import pytest
import torch
from bad_input.hostile import run
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from toy import NUM_FEATURES, Points, Samples, mlp

from mixnn_loader import MixNNDataLoader


@pytest.mark.parametrize("neighbors", ["dataset", "batch", "random", "random-batch"])
def test_too_few_samples(neighbors: Any) -> None:
    with pytest.raises(
        ValueError, match=r"num_neighbors must be smaller than the number of training samples \(4\), got 4"
    ):
        MixNNDataLoader(Points(4), mlp(), num_neighbors=4, neighbors=neighbors)


def test_too_few_samples_for_the_pool() -> None:
    with pytest.raises(ValueError, match=r"neighbor_pool must be smaller than the number of training samples \(40\)"):
        MixNNDataLoader(Points(), mlp(), neighbor_pool=40)


def test_the_dataset_changes_its_length() -> None:
    points = Points()
    loader = MixNNDataLoader(points, mlp(), batch_size=8, warmup_epochs=1)
    run(loader)
    points.inputs, points.labels = points.inputs[:30], points.labels[:30]
    with pytest.raises(RuntimeError, match="had 40 samples and now has 30; its length must not change"):
        run(loader)


def test_a_scan_dataset_of_another_length() -> None:
    with pytest.raises(ValueError, match=r"scan_dataset must have the dataset's 40 samples, got 30"):
        MixNNDataLoader(Points(), mlp(), scan_dataset=Points(30))


@pytest.mark.parametrize("scan_dataset", [3, iter([])])
def test_a_scan_dataset_that_is_none(scan_dataset: Any) -> None:
    with pytest.raises(TypeError, match="scan_dataset must be a dataset, got"):
        MixNNDataLoader(Points(), mlp(), scan_dataset=scan_dataset)


@pytest.mark.parametrize("inputs", [torch.zeros(4, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)])
def test_integer_inputs(inputs: Tensor) -> None:
    samples = Samples([(inputs, i % 3) for i in range(9)])
    with pytest.raises(TypeError, match=f"floating-point tensors to be mixed, got {inputs.dtype}.*num_neighbors=0"):
        run(MixNNDataLoader(samples, mlp(), batch_size=4))


def test_inputs_that_are_not_tensors() -> None:
    samples = Samples([({"x": torch.zeros(NUM_FEATURES), "name": "a"}, i % 3) for i in range(9)])
    with pytest.raises(TypeError, match=r"got a str among them; pass unpack="):
        run(MixNNDataLoader(samples, mlp(), batch_size=4))


def test_a_collate_function_that_drops_samples() -> None:
    def drop_one(samples: list[Any]) -> Any:
        return torch.stack([x for x, _ in samples[1:]]), torch.tensor([y for _, y in samples[1:]])

    with pytest.raises(ValueError, match=r"a row for each of its 8 samples.*collate_fn must keep every sample"):
        run(MixNNDataLoader(Points(), mlp(), batch_size=8, collate_fn=drop_one))


def test_a_sampler_without_integers() -> None:
    class Names(list[str]):
        pass

    with pytest.raises(TypeError, match="sampler must yield integer dataset indices, got 'a'"):
        run(MixNNDataLoader(DataLoader(Points(), sampler=Names("ab")), mlp()))


def test_a_list_of_inputs_and_flat_inputs_with_offsets_are_told_apart_from_lost_samples() -> None:
    def as_a_list(samples: list[Any]) -> Any:
        return [x for x, _ in samples], torch.tensor([y for _, y in samples])

    with pytest.raises(ValueError, match="a list of tensors, or a flat tensor with offsets, is not supported"):
        run(MixNNDataLoader(Points(), mlp(), batch_size=8, collate_fn=as_a_list))


def test_a_sampler_that_counts_from_the_end() -> None:
    with pytest.raises(ValueError, match="sampler must yield dataset indices >= 0, got -1; count from the start"):
        MixNNDataLoader(DataLoader(Points(), sampler=[0, -1, -2]), mlp())


def test_another_part_than_the_label() -> None:
    dataset = TensorDataset(torch.zeros(40, NUM_FEATURES), torch.arange(40), torch.zeros(40, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"label 3 at dataset index 3 must be in 0\.\.2, .* say by unpack= which part"):
        run(MixNNDataLoader(dataset, mlp(), batch_size=8))


class Failing(Points):
    """Once told to, raises an error for one sample, or kills the worker that loads it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.armed = multiprocessing.Event()

    def __getitem__(self, index: int) -> Any:
        if index == 20 and self.armed.is_set():
            if self.how == "raise":
                raise OSError("the disk is gone")
            # The parent gets a signal, and raises an error wherever it is: by then that should be where it waits.
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


FAILURES = pytest.mark.parametrize(
    ("how", "num_workers", "error", "message"),
    [
        ("raise", 0, OSError, "^the disk is gone$"),
        ("raise", 1, OSError, r"(?s)worker process 0.*Original Traceback.*in __getitem__.*OSError: the disk is gone"),
        ("kill", 1, RuntimeError, r"DataLoader worker \(pid.*(exited unexpectedly|killed by signal)"),
    ],
)


def failing_loader(how: str, num_workers: int, warmup_epochs: int) -> tuple[Failing, MixNNDataLoader]:
    """Batches of 8 in order, one at a time: what fails is the third."""
    workers: dict[str, Any] = {"num_workers": num_workers, "prefetch_factor": 1} if num_workers > 0 else {}
    points = Failing(how)
    loader = MixNNDataLoader(
        points, mlp(), batch_size=8, warmup_epochs=warmup_epochs, correction_epoch=0, neighbors="batch", **workers
    )
    return points, loader


@FAILURES
def test_a_failure_in_an_epoch(how: str, num_workers: int, error: type[Exception], message: str) -> None:
    points, loader = failing_loader(how, num_workers, warmup_epochs=0)
    batches = iter(loader)
    seen = [next(batches).targets.indices]
    points.armed.set()
    seen.append(next(batches).targets.indices)
    with pytest.raises(error, match=message):
        next(batches)
    assert torch.cat(seen).tolist() == list(range(16))

    twin = failing_loader(how, 0, warmup_epochs=0)[1]
    twin_batches = iter(twin)
    next(twin_batches)
    next(twin_batches)
    twin.state_dict()  # the second batch counts as trained on
    assert torch.equal(loader.soft_targets, twin.soft_targets)
    assert torch.equal(loader.clean_probability, twin.clean_probability)

    state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (0, 2)
    points.armed.clear()
    resumed = failing_loader(how, num_workers, warmup_epochs=0)[1]
    resumed.load_state_dict(state)
    for going_on in (loader, resumed):
        rest = torch.cat([batch.targets.indices for batch in going_on])
        assert rest.tolist() == list(range(16, 40))
        assert going_on.epoch == 1
        assert len(list(going_on)) == 5
        assert going_on.epoch == 2


@FAILURES
def test_a_failure_in_a_scan(how: str, num_workers: int, error: type[Exception], message: str) -> None:
    points, loader = failing_loader(how, num_workers, warmup_epochs=1)
    run(loader)
    points.armed.set()
    targets, history = loader.soft_targets.clone(), list(loader.history)
    with pytest.raises(error, match=message):
        next(iter(loader))
    assert torch.equal(loader.soft_targets, targets)
    assert loader.clean_probability.isnan().all()
    assert loader.history == history
    assert loader.epoch == 1

    points.armed.clear()
    run(loader)
    twin = failing_loader(how, 0, warmup_epochs=1)[1]
    run(twin, epochs=2)
    assert loader.epoch == 2
    assert torch.equal(loader.soft_targets, twin.soft_targets)
    assert torch.equal(loader.losses, twin.losses)
    assert torch.equal(loader.clean_probability, twin.clean_probability)
