"""A batch sampler whose batches alone can be collated is scanned in its own batches, and mixed within them."""

import re
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from integration.like_sized import Buckets, MeanModel, Sequences
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
    """Batches are known only after they have been drawn."""
    return nullcontext() if unless else pytest.warns(RuntimeWarning, match="nothing has been drawn yet")


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
    with expects_a_warning(unless=warmup_epochs > 0):
        train(loader, model, 1)
    assert bool(loader.losses.isfinite().all())
    assert bool(loader.clean_probability.isfinite().all()) == (warmup_epochs > 0)
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


@SAMPLERS
@pytest.mark.parametrize("neighbors", ["dataset", "random"])
def test_neighbors_from_elsewhere_fail_with_a_remedy(neighbors: Any, kind: Any) -> None:
    """Once others are known: of a list of batches at once, else when they have been drawn."""
    for warmup_epochs in (0, 2):
        loader, model = loader_of(kind(), warmup_epochs=warmup_epochs, neighbors=neighbors)
        with (
            expects_a_warning(unless=warmup_epochs > 0),
            pytest.raises(RuntimeError, match=r"neighbors='batch' or 'random-batch', or let collate_fn pad"),
        ):
            train(loader, model, 1 if kind is not Buckets else max(1, warmup_epochs) + 1)


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
