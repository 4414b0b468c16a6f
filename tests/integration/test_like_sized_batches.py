"""A batch sampler whose batches alone can be collated is scanned in its own batches, and mixed within them."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from integration.like_sized import Buckets, MeanModel, Sequences
from integration.processes import results_of
from torch.utils.data import DataLoader
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss

WITHIN: list[dict[str, Any]] = [{"neighbors": "batch"}, {"neighbors": "random-batch"}, {"num_neighbors": 0}]
SCANS = pytest.mark.parametrize("scan", ["epoch", "running"])
SAMPLERS = pytest.mark.parametrize("kind", [Buckets, lambda: list(Buckets())], ids=["own", "list"])


def loader_of(batch_sampler: Any, **arguments: Any) -> tuple[MixNNDataLoader, MeanModel]:
    torch.manual_seed(0)
    model = MeanModel()
    return MixNNDataLoader(DataLoader(Sequences(), batch_sampler=batch_sampler), model, **arguments), model


def expects_a_warning(*, unless: bool) -> AbstractContextManager[Any]:
    """Batches of a batch sampler are known only after they have been drawn."""
    return (
        nullcontext()
        if unless
        else pytest.warns(UserWarning, match="epoch 0 is one of warm-up.*after it has been drawn")
    )


def train(loader: MixNNDataLoader, model: MeanModel, epochs: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(epochs):
        for batch in loader:
            loss = MixNNLoss()(model(batch.inputs), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@SAMPLERS
@pytest.mark.parametrize("arguments", WITHIN, ids=str)
@pytest.mark.parametrize(("warmup_epochs", "scan"), [(0, "running"), (2, "epoch")])
def test_neighbors_from_the_batch(warmup_epochs: int, arguments: dict[str, Any], kind: Any, scan: Any) -> None:
    loader, model = loader_of(kind(), warmup_epochs=warmup_epochs, correction_epoch=3, scan=scan, **arguments)
    train(loader, model, warmup_epochs)
    waits = kind is Buckets and warmup_epochs == 0
    with expects_a_warning(unless=not waits):
        train(loader, model, 1)
    assert [record["phase"] for record in loader.history] == ["warm-up"] * (warmup_epochs or waits) + ["mixing"] * (
        not waits
    )
    assert bool(loader.losses.isfinite().all()) == (not waits)
    assert bool(loader.clean_probability.isfinite().all()) == (not waits)
    train(loader, model, 3)
    assert bool(loader.clean_probability.isfinite().all())
    assert not torch.equal(loader.soft_targets, loader.soft_targets.round())


@SCANS
@pytest.mark.parametrize("warmup_epochs", [0, 2])
def test_what_its_batches_leave_out_is_held_out(warmup_epochs: int, scan: Any) -> None:
    loader, model = loader_of(Buckets(30), warmup_epochs=warmup_epochs, neighbors="batch", scan=scan)
    with expects_a_warning(unless=warmup_epochs > 0):
        train(loader, model, warmup_epochs + 2)
    assert bool(loader.losses[:30].isfinite().all())
    assert bool(loader.losses[30:].isnan().all())
    assert bool(loader.clean_probability[30:].isnan().all())


def test_members_of_whom_no_batch_is_known_wait_until_they_are_drawn() -> None:
    loader, model = loader_of(Buckets(), warmup_epochs=0, neighbors="batch", members=range(36))
    with expects_a_warning(unless=False):
        train(loader, model, 1)
    assert bool(loader.clean_probability.isnan().all())
    train(loader, model, 1)
    assert bool(loader.clean_probability.isfinite().all())


def test_a_report_in_the_midst_of_an_epoch_is_of_all_members() -> None:
    for batches, members in ((list(Buckets()), None), (list(Buckets(30)), range(30)), (Buckets(30), range(30))):
        loader, model = loader_of(batches, neighbors="batch", members=members)
        for batch in islice(loader, 3):
            MixNNLoss()(model(batch.inputs), batch).backward()
        everyone = list(range(36 if members is None else 30))
        assert sorted(loader.label_report().indices.tolist()) == everyone


class Part(Buckets):
    """Batches that are given."""

    def __init__(self, batches: list[list[int]]) -> None:
        super().__init__()
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _of_two(rank: int, size: int, *, as_list: bool) -> tuple[list[list[int]], list[int]]:
    """Train on two batches of four: return all four, and which samples the report is of."""
    torch.manual_seed(0)
    batches = list(Buckets())[rank : 4 * size : size]
    loader, model = loader_of(batches if as_list else Part(batches), neighbors="batch")
    for batch in islice(loader, 2):
        MixNNLoss()(model(batch.inputs), batch).backward()
    return batches, sorted(loader.label_report().indices.tolist())


@pytest.mark.parametrize("as_list", [False, True])
def test_several_processes_report_in_the_midst_of_an_epoch_what_all_know(*, as_list: bool, tmp_path: Path) -> None:
    parts = results_of(partial(_of_two, as_list=as_list), 2, tmp_path)
    known = sorted(chain.from_iterable(chain(*(batches if as_list else batches[:2] for batches, _ in parts))))
    assert [reported for _, reported in parts] == [known] * 2


def test_before_its_first_batch_there_is_no_report() -> None:
    loader, _ = loader_of(Buckets(), members=range(36))
    with pytest.raises(
        RuntimeError, match="before the first epoch: what the batch sampler puts together is known only"
    ):
        loader.label_report()


@SAMPLERS
@pytest.mark.parametrize("neighbors", ["dataset", "random"])
def test_neighbors_from_elsewhere_fail_with_a_remedy(neighbors: Any, kind: Any) -> None:
    """With the first batch of a list of batches, else with the second: then others are known."""
    for warmup_epochs in (0, 2):
        loader, model = loader_of(kind(), warmup_epochs=warmup_epochs, neighbors=neighbors)
        remedy = pytest.raises(RuntimeError, match=r"neighbors='batch' or 'random-batch', or let collate_fn pad")
        with expects_a_warning(unless=warmup_epochs > 0 or kind is not Buckets), remedy:
            train(loader, model, 1)
        assert loader.batch == (kind is Buckets)


def test_neighbors_that_collate_fn_pads_are_welcome() -> None:
    def pad(samples: list[Any]) -> Any:
        rows = torch.nn.utils.rnn.pad_sequence([points for points, _ in samples], batch_first=True)
        return rows, torch.tensor([label for _, label in samples])

    model = MeanModel()
    loader = MixNNDataLoader(Sequences(), model, batch_sampler=Buckets(), collate_fn=pad, warmup_epochs=1)
    train(loader, model, 2)
    assert bool((loader.neighbor_indices >= 0).all())


def test_a_neighbor_that_cannot_be_loaded_at_all_says_so_itself() -> None:
    class HalfBroken(Points):
        def __getitem__(self, index: int) -> Any:
            if index >= 20:
                raise OSError(f"no file {index}")
            return super().__getitem__(index)

    loader = MixNNDataLoader(HalfBroken(40), mlp(), batch_size=8, neighbors="random", warmup_epochs=1)
    with pytest.raises(OSError, match="no file"):
        next(iter(loader))


def test_another_error_in_the_first_batch_stays_what_it_is() -> None:
    class Broken(Sequences):
        def __getitem__(self, index: int) -> Any:
            raise OSError("no such file")

    model = MeanModel()
    loader = MixNNDataLoader(Broken(), model, batch_sampler=Buckets(), warmup_epochs=1)
    with pytest.raises(OSError, match=re.escape("no such file")):
        next(iter(loader))
