"""What the first argument of MixNNDataLoader may be."""

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    SubsetRandomSampler,
)
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader
from mixnn_loader.data.indexed import COPIED_ARGUMENTS, REPLACED_ARGUMENTS
from mixnn_loader.data.user_loader import as_data_loader, is_endless_by_design, length_of, warn_of_parts


def test_parts_of_a_sampler_that_does_not_say_which_it_draws() -> None:
    class Dividing(SubsetRandomSampler):
        num_replicas = 2

    warn_of_parts(DataLoader(Points(), sampler=Dividing(range(20))), rank=1, num_processes=2)
    with pytest.warns(UserWarning, match="divides the data into 2 parts, and 3 processes"):
        warn_of_parts(DataLoader(Points(), sampler=Dividing(range(20))), rank=1, num_processes=3)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([])


def prepared(module: str) -> DataLoader[Any]:
    """Build a loader of a class that says it comes from ``module``."""
    cls = type("PreparedLoader", (DataLoader,), {"__module__": module})
    loader = cls(Points())
    assert isinstance(loader, DataLoader)
    return loader


def test_every_argument_of_the_data_loader_is_accounted_for() -> None:
    known = set(inspect.signature(DataLoader.__init__).parameters) - {"self"}
    assert set(COPIED_ARGUMENTS) | set(REPLACED_ARGUMENTS) == known
    assert not set(COPIED_ARGUMENTS) & set(REPLACED_ARGUMENTS)


def test_a_loader_is_kept_and_a_dataset_gets_one() -> None:
    loader = DataLoader(Points(), batch_size=7)
    assert as_data_loader(loader, {}) is loader
    built = as_data_loader(Points(), {"batch_size": 9, "drop_last": True})
    assert (built.batch_size, built.drop_last) == (9, True)


def test_an_iterable_dataset_is_refused() -> None:
    for data in (Stream(), DataLoader(Stream())):
        with pytest.raises(TypeError, match=r"target for every sample.*map-style.*IterableDataset Stream"):
            MixNNDataLoader(data, mlp())


@pytest.mark.parametrize("data", [None, 3, [[1.0, 2.0]].__iter__()])
def test_something_else_is_refused(data: Any) -> None:
    with pytest.raises(
        TypeError, match=rf"data must be a torch\.utils\.data\.DataLoader or a dataset, got {type(data).__name__}"
    ):
        MixNNDataLoader(data, mlp())


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        ("timm.data.loader", r"create_loader\(..., use_prefetcher=False\)"),
        ("fastai.data.load", r"DataLoader\(dls.train_ds, batch_size, shuffle=True\)"),
        ("someone.else", "MixNN keeps a target for every sample"),
    ],
)
def test_a_loader_that_is_not_of_pytorch_is_named_in_full(module: str, remedy: str) -> None:
    own = type("DataLoader", (), {"__module__": module, "__iter__": iter, "__len__": len})
    with pytest.raises(TypeError, match=rf"a dataset, got {module}\.DataLoader; .*{remedy}"):
        MixNNDataLoader(own(), mlp())


def test_a_data_frame_is_refused_with_its_rows() -> None:
    frame = pd.DataFrame({"width": [0.1, 0.2], "label": [0, 1]})
    for data in (frame, DataLoader(frame)):
        with pytest.raises(TypeError, match=r"data is a DataFrame, whose keys are columns; pass a dataset of its rows"):
            MixNNDataLoader(data, mlp())


@pytest.mark.parametrize(
    ("module", "order"),
    [
        ("accelerate.data_loader", r"accelerator\.prepare\(model, optimizer\)"),
        ("lightning.fabric.wrappers", r"from train_dataloader\(\)"),
        ("pytorch_lightning.overrides", r"from train_dataloader\(\)"),
    ],
)
def test_a_prepared_loader_is_refused_with_the_right_order(module: str, order: str) -> None:
    with pytest.raises(TypeError, match=f"got {module}.PreparedLoader, which is already prepared; .*{order}"):
        MixNNDataLoader(prepared(module), mlp())


def test_a_wrapped_loader_is_not_wrapped_again() -> None:
    wrapped = MixNNDataLoader(Points(), mlp())
    with pytest.raises(TypeError, match="data is already a MixNNDataLoader; wrap the DataLoader in it once"):
        MixNNDataLoader(wrapped, mlp())


@pytest.mark.parametrize("module", [nn.Sequential(nn.Linear(6, 3)), mlp(), nn.ModuleList()])
def test_a_module_in_the_place_of_the_data_names_the_order(module: nn.Module) -> None:
    message = rf"data is a module \({type(module).__name__}\): the order is MixNNDataLoader\(loader, model\)"
    with pytest.raises(TypeError, match=message):
        MixNNDataLoader(module, mlp())


def test_a_dataset_that_is_a_module_is_a_dataset() -> None:
    class Learned(nn.Module, Points):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            Points.__init__(self)

    assert len(as_data_loader(Learned(), {"batch_size": 10})) == 4


@pytest.mark.parametrize("kind", [list, tuple])
def test_several_loaders_are_refused(kind: type) -> None:
    loaders = kind([DataLoader(Points()), DataLoader(Points())])
    message = f"got a {kind.__name__} of 2 loaders; pass one loader of torch.utils.data.ConcatDataset"
    with pytest.raises(TypeError, match=message):
        MixNNDataLoader(loaders, mlp())


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("arrays", [(torch.zeros(9, 6), torch.zeros(9)), (np.zeros((9, 6)), np.zeros((9, 1)))])
def test_the_arrays_of_a_dataset_are_refused(kind: type, arrays: Any) -> None:
    message = (
        rf"got a {kind.__name__} of two arrays; pass torch\.utils\.data\.TensorDataset\(inputs, labels\), of tensors"
    )
    with pytest.raises(TypeError, match=message):
        MixNNDataLoader(kind(arrays), mlp())


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [(torch.zeros(6), 0), (torch.ones(6), 1)],
        ((torch.zeros(6), 0), (torch.ones(6), 1)),
        [torch.zeros(7), torch.ones(7)],
        [torch.zeros(4, 7), torch.ones(5, 7)],
        [torch.tensor(0.0), torch.tensor([1.0])],
        [np.zeros(7), np.ones(7), np.ones((7, 1))],
    ],
)
def test_a_list_of_samples_is_a_dataset(samples: Any) -> None:
    assert as_data_loader(samples, {"shuffle": False}).dataset is samples


def test_an_iter_of_ones_own_is_not_dropped_silently() -> None:
    class Twice(DataLoader[Any]):
        def __iter__(self) -> Any:
            yield from super().__iter__()
            yield from super().__iter__()

    with pytest.warns(UserWarning, match="Twice has an __iter__ of its own, which is not used"):
        MixNNDataLoader(Twice(Points()), mlp())


class Repeating:
    """Goes on for ever."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from self.sampler


class KeepsWorkers(DataLoader[Any]):
    """Starts its workers once and counts the batches of each epoch, as timm's MultiEpochsDataLoader."""

    def __len__(self) -> int:
        return 7

    def __iter__(self) -> Any:
        yield from super().__iter__()


class Untold(Repeating):
    """Has a length of which it says that it has none, as the base class of older samplers."""

    def __len__(self) -> int:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("loader", "length", "is_endless"),
    [
        (DataLoader(Points(40), batch_size=16), 3, False),
        (DataLoader(Points(40), batch_size=16, drop_last=True), 2, False),
        (DataLoader(Points(40), batch_sampler=[[1], [2]]), 2, False),
        (DataLoader(Points(40), batch_sampler=Repeating([[1], [2]])), None, False),
        (DataLoader(Points(40), batch_sampler=Untold([[1], [2]])), None, False),
        (DataLoader(Points(40), sampler=Repeating([1, 2])), None, False),
        (KeepsWorkers(Points(40), batch_sampler=Repeating([[1], [2]])), 7, True),
        (KeepsWorkers(Points(40), batch_size=16), 3, False),
    ],
)
def test_the_length_of_an_epoch(loader: DataLoader[Any], length: int | None, *, is_endless: bool) -> None:
    assert length_of(loader) == length
    assert is_endless_by_design(loader) == is_endless


def test_timms_loader_for_many_epochs_is_endless_by_design() -> None:
    from timm.data.loader import MultiEpochsDataLoader

    build: Any = MultiEpochsDataLoader
    loader = build(Points(40), batch_size=16, shuffle=True)
    assert length_of(loader) == 3
    assert is_endless_by_design(loader)


def test_an_unknown_keyword_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"unknown argument 'batchsize'; did you mean 'batch_size'\?"):
        MixNNDataLoader(Points(), mlp(), batchsize=3)
    for data in (Points(), DataLoader(Points())):
        with pytest.raises(TypeError, match=r"unknown argument 'warmup_epoch'; did you mean 'warmup_epochs'\?"):
            MixNNDataLoader(data, mlp(), warmup_epoch=3)
    with pytest.raises(TypeError, match="unknown argument 'zzz'; besides its own, it takes DataLoader's"):
        MixNNDataLoader(Points(), mlp(), zzz=3)


def test_loader_arguments_beside_a_loader_are_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"go with a dataset, got \['batch_size'\] with a DataLoader"):
        MixNNDataLoader(DataLoader(Points()), mlp(), batch_size=3)


def test_a_loader_that_does_not_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must not be None"):
        MixNNDataLoader(DataLoader(Points(), batch_size=None), mlp())


def test_members_follow_a_curriculum() -> None:
    sampler = SubsetRandomSampler(list(range(10)))
    loader = MixNNDataLoader(Points(), mlp(), warmup_epochs=0, batch_size=5, sampler=sampler, search="exact")
    list(loader)
    assert loader.losses[10:].isnan().all()
    sampler.indices = list(range(20))
    for batch in loader:
        assert batch.targets.mixed.isfinite().all()
    assert loader.losses[:20].isfinite().all()
    sampler.indices = list(range(5, 20))
    list(loader)
    assert loader.losses[:5].isnan().all()
    assert loader.clean_probability[:5].isnan().all()


def test_parts_that_no_process_gets_are_warned_of() -> None:
    sampler: DistributedSampler[Any] = DistributedSampler(Points(), num_replicas=2, rank=0)
    for plain in (
        DataLoader(Points(), sampler=sampler),
        DataLoader(Points(), batch_sampler=BatchSampler(sampler, 4, drop_last=False)),
    ):
        loader = MixNNDataLoader(plain, mlp())
        with pytest.warns(UserWarning, match=r"divides the data into 2 parts, and 1 processes .* init"):
            next(iter(loader))


def test_a_curriculum_that_leaves_nothing() -> None:
    sampler = SubsetRandomSampler(list(range(10)))
    loader = MixNNDataLoader(Points(), mlp(), warmup_epochs=0, batch_size=5, sampler=sampler)
    sampler.indices = []
    with pytest.raises(RuntimeError, match="the sampler can draw no sample"):
        list(loader)


@pytest.mark.parametrize("neighbors", ["dataset", "random"])
def test_samples_held_out_by_the_sampler_never_reach_the_training(neighbors: Any) -> None:
    held_in = np.arange(0, 40, 2)
    loader = MixNNDataLoader(
        Points(),
        mlp(),
        warmup_epochs=0,
        num_neighbors=3,
        neighbors=neighbors,
        batch_size=5,
        sampler=SubsetRandomSampler(held_in.tolist()),
    )
    seen = torch.cat([batch.targets.neighbors.flatten() for batch in loader])
    assert set(seen.tolist()) <= set(held_in.tolist())
    assert loader.losses[1::2].isnan().all()
    assert loader.losses[::2].isfinite().all()
