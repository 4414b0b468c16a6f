"""The user's ``data`` argument: checked, and brought into the form of a DataLoader."""

import difflib
import inspect
from collections.abc import Iterable, Sequence, Sized
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)

from mixnn_loader._utils.warn import warn_user

_MAP_STYLE = "MixNN keeps a target for every sample and needs a map-style dataset, with __getitem__ and __len__"

_LIGHTNING_ORDER = (
    "return MixNNDataLoader(loader, model) from train_dataloader() or pass it to trainer.fit(), around the loader as "
    "you built it; with Fabric, leave out fabric.setup_dataloaders()"
)

_PREPARING_PACKAGES = {
    "accelerate": "loader = MixNNDataLoader(loader, model) with the loader as you built it, and prepare only the "
    "model and the optimizer: model, optimizer = accelerator.prepare(model, optimizer)",
    "lightning": _LIGHTNING_ORDER,
    "lightning_fabric": _LIGHTNING_ORDER,
    "pytorch_lightning": _LIGHTNING_ORDER,
}
"""Packages whose loaders have taken over sampling and device, and the order of calls that leaves these to MixNN."""

_LOADERS_OF_THEIR_OWN = {
    "timm": "build it by create_loader(..., use_prefetcher=False), which is a DataLoader",
    "fastai": "wrap a DataLoader of its dataset, torch.utils.data.DataLoader(dls.train_ds, batch_size, shuffle=True), "
    "and put it into the Learner's DataLoaders",
}
"""Packages with loaders that are none of PyTorch's, and what to take instead."""


def as_data_loader(data: Any, dataloader_kwargs: dict[str, Any], own_names: Sequence[str] = ()) -> DataLoader[Any]:
    """Return the user's DataLoader, or build one of the user's dataset.

    Args:
        data: a DataLoader, or a map-style dataset.
        dataloader_kwargs: the DataLoader's arguments, for a dataset.
        own_names: other argument names that an unknown one may have been meant for.

    Warns:
        UserWarning: ``data`` is of a DataLoader subclass with an ``__iter__`` of its own.

    Raises:
        TypeError: ``data`` is neither, is iterable-style, already wrapped or already prepared by a framework, or a
            keyword is unknown or out of place.
        ValueError: the loader does not batch.
    """
    _check_kind(data)
    known = list(inspect.signature(DataLoader).parameters)[1:]
    for name in dataloader_kwargs:
        if name not in known:
            close = difflib.get_close_matches(name, [*own_names, *known], n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"besides its own, it takes DataLoader's: {known}"
            raise TypeError(f"MixNNDataLoader got an unknown argument {name!r}; {hint}")
    _check_not_prepared(data)
    if isinstance(data, DataLoader):
        if dataloader_kwargs:
            raise TypeError(
                f"DataLoader arguments go with a dataset, got {sorted(dataloader_kwargs)} with a DataLoader; set "
                "them where that is built"
            )
        loader = data
    else:
        check_map_style("data", data)
        loader = DataLoader(data, **dataloader_kwargs)
    check_map_style("data", loader.dataset)
    if type(loader).__iter__ is not DataLoader.__iter__:
        warn_user(
            f"{type(loader).__name__} has an __iter__ of its own, which is not used: MixNN builds a plain DataLoader "
            "with the same settings"
        )
    if loader.batch_sampler is None:
        raise ValueError("batch_size must not be None: MixNN mixes within batches; let the DataLoader do the batching")
    return loader


def warn_of_parts(loader: DataLoader[Any], rank: int, num_processes: int) -> None:
    """Compare the parts into which the sampler divides the data with the processes that there are.

    Args:
        loader: the user's.
        rank: which process this is.
        num_processes: how many there are.

    Warns:
        UserWarning: each process gets everything, there are parts that none gets, or this one gets another's.
    """
    # Beside a batch sampler of the user's, DataLoader makes a sampler of its own, which nobody asks.
    samplers: list[Any] = [loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)]
    num_parts = max((int(getattr(sampler, "num_replicas", 1)) for sampler in samplers), default=1)
    parts = {int(sampler.rank) for sampler in samplers if hasattr(sampler, "num_replicas") and hasattr(sampler, "rank")}
    if num_parts != num_processes and num_parts > 1:
        warn_user(
            f"the sampler divides the data into {num_parts} parts, and {num_processes} processes train together: init "
            "torch.distributed before the first epoch, and pass the same group to both"
        )
    elif num_parts > 1 and (others := parts - {rank}):
        warn_user(
            f"the sampler draws the part of process {min(others)}, and this is process {rank}: build it where "
            "the process knows its rank, after init_process_group, or pass rank= to DistributedSampler"
        )
    elif num_parts == 1 < num_processes and any(isinstance(s, (RandomSampler, SequentialSampler)) for s in samplers):
        warn_user(
            f"each of {num_processes} processes draws the whole dataset: build the DataLoader with "
            "sampler=DistributedSampler(dataset), so that each gets its part"
        )


def check_map_style(name: str, dataset: Any) -> None:
    """Check that an argument can be indexed and has a length.

    Raises:
        TypeError: it is iterable-style, or no dataset at all.
    """
    if isinstance(dataset, IterableDataset):
        raise TypeError(f"{_MAP_STYLE}; {name} is the IterableDataset {type(dataset).__name__}")
    if not (isinstance(dataset, Dataset) or hasattr(dataset, "__getitem__")) or not hasattr(dataset, "__len__"):
        kind = "a torch.utils.data.DataLoader or a dataset" if name == "data" else "a dataset"
        module = type(dataset).__module__
        got = type(dataset).__name__ if module == "builtins" else f"{module}.{type(dataset).__name__}"
        remedy = _LOADERS_OF_THEIR_OWN.get(module.partition(".")[0], _MAP_STYLE)
        raise TypeError(f"{name} must be {kind}, got {got}; {remedy}")
    if hasattr(dataset, "iloc"):
        raise TypeError(
            f"{name} is a {type(dataset).__name__}, whose keys are columns; pass a dataset of its rows, such as "
            "torch.utils.data.TensorDataset(torch.tensor(frame[features].values, dtype=torch.float32), "
            "torch.tensor(labels)), with labels as 0..C-1"
        )


def length_of(loader: DataLoader[Any]) -> int | None:
    """Return the number of batches an epoch; None where the user's batch sampler does not tell."""
    # Not first what a subclass of DataLoader says: the batch sampler is what is iterated, by whatever loader.
    length = _known_length(loader.batch_sampler)
    if length is None and type(loader).__len__ is not DataLoader.__len__:
        length = _known_length(loader)
    return length


def is_endless_by_design(loader: DataLoader[Any]) -> bool:
    """Whether the batch sampler goes on for ever and the loader itself ends the epochs, as timm's multi-epoch one."""
    cls = type(loader)
    ends_epochs = cls.__iter__ is not DataLoader.__iter__ and cls.__len__ is not DataLoader.__len__
    return ends_epochs and not hasattr(loader.batch_sampler, "__len__")


def samplers_of(loader: DataLoader[Any]) -> dict[str, Any]:
    """Name everything that chooses the samples; one object may have several names."""
    return {
        "sampler": loader.sampler,
        "batch_sampler": loader.batch_sampler,
        "inner_sampler": getattr(loader.batch_sampler, "sampler", None),
    }


def generators_of(loader: DataLoader[Any]) -> dict[str, torch.Generator]:
    """Name the random generators that the user gave to the loader or its samplers."""
    owners = {"loader": loader, **samplers_of(loader)}
    found = {name: getattr(owner, "generator", None) for name, owner in owners.items()}
    return {name: generator for name, generator in found.items() if isinstance(generator, torch.Generator)}


def num_samples(loader: DataLoader[Any]) -> int:
    """Return N, the length of the loader's dataset."""
    return len(cast("Sized", loader.dataset))


def _known_length(batches: Any) -> int | None:
    try:
        return len(batches)
    except (TypeError, NotImplementedError):  # it has none, or its sampler has none
        return None


def _check_kind(data: Any) -> None:
    """Refuse what has a length and can be indexed, but is not what it would be taken for."""
    if isinstance(data, nn.Module) and not isinstance(data, Dataset):
        raise TypeError(f"data is a module ({type(data).__name__}): the order is MixNNDataLoader(loader, model)")
    if not isinstance(data, (list, tuple)):
        return
    kind = type(data).__name__
    if any(isinstance(entry, DataLoader) for entry in data[:1]):
        raise TypeError(
            f"data must be one DataLoader or dataset, got a {kind} of {len(data)} loaders; pass one loader of "
            "torch.utils.data.ConcatDataset, which joins datasets"
        )
    if _are_columns(data):
        raise TypeError(
            f"data must be a DataLoader or a dataset, got a {kind} of two arrays; pass "
            "torch.utils.data.TensorDataset(inputs, labels), of tensors"
        )


def _are_columns(data: Sequence[Any]) -> bool:
    """Tell the inputs and labels of all samples from a list of two samples, which would be of one shape."""
    if len(data) != 2 or not all(isinstance(entry, (Tensor, np.ndarray)) and entry.ndim > 0 for entry in data):
        return False
    return len(data[0]) == len(data[1]) and tuple(data[0].shape) != tuple(data[1].shape)


def _check_not_prepared(data: Any) -> None:
    if not isinstance(data, Iterable) or isinstance(data, Dataset):
        return
    for cls in type(data).__mro__:  # not all of them are DataLoaders: Fabric's only looks like one
        remedy = _PREPARING_PACKAGES.get(cls.__module__.partition(".")[0])
        if remedy is not None:
            raise TypeError(f"got {cls.__module__}.{cls.__name__}, which is already prepared; {remedy}")
