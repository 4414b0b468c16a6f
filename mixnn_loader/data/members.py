"""Which samples of the dataset are training data: what the sampler says of that, and what the user says."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from mixnn_loader.data.user_loader import num_samples as num_samples_of
from mixnn_loader.datasets.balanced import BalancedOrder

_MEMBERS = "members must be the dataset indices of the training samples, or a mask with True for each of them"


def declared_members(loader: DataLoader[Any]) -> np.ndarray | None:
    """List the dataset indices that the sampler can draw, sorted and distinct, (n,) int64.

    Nothing is drawn for that. Samples that a `SubsetRandomSampler` leaves out, or a `WeightedRandomSampler` gives no
    weight, are usually held out for validation, and must not be mixed into the training.

    Returns:
        None where the sampler, or the batch sampler, is of a type that is not known: what it can draw only it can tell.

    Raises:
        ValueError: it would draw a negative index.
    """
    batch_sampler: Any = loader.batch_sampler
    drawn = None
    if _as_in(BatchSampler, batch_sampler):
        drawn = _readable(batch_sampler.sampler)
    elif any(_as_in(kind, batch_sampler) for kind in _COLLECTIONS):  # of batches
        drawn = _joined([_readable(batch) for batch in batch_sampler])
    if drawn is None:
        return None
    if (drawn < 0).any():
        raise ValueError(
            f"the sampler must yield dataset indices >= 0, got {int(drawn[drawn < 0][0])}; count from the start instead"
        )
    num_samples = num_samples_of(loader)
    within = drawn < num_samples  # one beyond is an error of the dataset's when it is drawn
    return _distinct(drawn[within], num_samples)


def listed_batches(loader: DataLoader[Any]) -> np.ndarray | None:
    """Read in which batch each sample comes, (N,) int64, -1 where in none; None unless the batches are a list."""
    batches: Any = loader.batch_sampler
    if not any(_as_in(kind, batches) for kind in _COLLECTIONS):
        return None
    num_samples = num_samples_of(loader)
    batch_of = np.full(num_samples, -1, dtype=np.int64)
    for number, batch in enumerate(batches):
        indices = _readable(batch)
        if indices is None:
            return None
        batch_of[indices[(indices >= 0) & (indices < num_samples)]] = number
    return batch_of


def makes_own_batches(loader: DataLoader[Any]) -> bool:
    """Whether the batch sampler is the user's: maybe only its own batches can be collated, as samples of one length."""
    return not _as_in(BatchSampler, loader.batch_sampler)


def given_members(members: Any, num_samples: int) -> np.ndarray:
    """Check the user's ``members`` argument.

    Args:
        members: integers in 0..N-1 in a sequence, array or 1-D tensor; or N booleans.
        num_samples: N.

    Returns:
        (n,) int64, sorted and distinct.

    Raises:
        ValueError: it is something else, or there are none.
    """
    try:
        given = members.detach().cpu().numpy() if isinstance(members, Tensor) else np.asarray(members)
    except (TypeError, ValueError):  # lists of several lengths; types that NumPy does not have
        given = np.empty(0, dtype=object)
    if given.ndim == 1 and given.dtype != object and len(given) == 0:
        raise ValueError(f"{_MEMBERS}, got none; leave the argument out to train on what the sampler draws")
    if given.ndim != 1 or given.dtype.kind not in "iub":
        raise ValueError(f"{_MEMBERS}, got {_described(members, given)}; pass a list, an array or a tensor of integers")
    if given.dtype.kind == "b":
        if len(given) != num_samples:
            raise ValueError(
                f"{_MEMBERS}, got a mask of {len(given)} for {num_samples} samples; give it one entry a sample"
            )
        if not given.any():
            raise ValueError(f"{_MEMBERS}, got a mask without a True; leave the argument out to train on all")
        return np.flatnonzero(given)
    beyond = given[(given < 0) | (given >= num_samples)]
    if len(beyond) > 0:
        raise ValueError(
            f"{_MEMBERS}, got the index {beyond[0]} for a dataset of {num_samples} samples; indices are in "
            f"0..{num_samples - 1}, those of the dataset that the loader was built with"
        )
    return _distinct(given.astype(np.int64), num_samples)


def _as_in(kind: type, sampler: Any) -> bool:
    """Whether it is of a type and iterated as this says; a subclass may do anything in an ``__iter__`` of its own."""
    return isinstance(sampler, kind) and getattr(type(sampler), "__iter__", None) is getattr(kind, "__iter__", None)


def _readable(sampler: Any) -> np.ndarray | None:
    """Read what a sampler of a known type can draw, (n,) int64."""
    for kind, read in _READERS.items():
        if _as_in(kind, sampler):
            return read(sampler)
    return None


def _integers(values: Any) -> np.ndarray | None:
    """Read a sequence of integers; None if it is one of something else."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.numpy() if not values.is_floating_point() else values.double().numpy()
    if isinstance(values, np.ndarray):
        holds_integers = values.ndim == 1 and (values.dtype.kind in "iu" or len(values) == 0)
        return values.astype(np.int64) if holds_integers else None
    if isinstance(values, range):
        return np.arange(values.start, values.stop, values.step)
    if isinstance(values, list) and set(map(type, values)) == {int}:  # much faster, for millions
        return np.array(values, dtype=np.int64)
    try:
        return np.fromiter((operator.index(values[place]) for place in range(len(values))), np.int64)
    except TypeError:
        return None


def _distinct(indices: np.ndarray, num_samples: int) -> np.ndarray:
    """Sort indices in 0..N-1 and drop those that come again; ten times as fast as `numpy.unique`."""
    marks = np.zeros(num_samples, dtype=bool)
    marks[indices] = True
    return np.flatnonzero(marks)


def _joined(parts: list[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate([np.empty(0, dtype=np.int64), *known]) if len(known) == len(parts) else None


def _described(members: Any, given: np.ndarray) -> str:
    """Name the kind of what was given, and the value itself where that is short."""
    if given.ndim == 0 or given.dtype == object:
        return f"{members!r:.60}"
    return f"{type(members).__name__} of {given.dtype} and shape {given.shape}"


_COLLECTIONS: tuple[type, ...] = (list, tuple, range, np.ndarray, Tensor)
"""Reading them has no side effect."""

_READERS: dict[type, Callable[[Any], np.ndarray | None]] = {
    SequentialSampler: lambda sampler: np.arange(len(sampler.data_source)),
    RandomSampler: lambda sampler: np.arange(len(sampler.data_source)),
    SubsetRandomSampler: lambda sampler: _integers(sampler.indices),
    WeightedRandomSampler: lambda sampler: np.flatnonzero(sampler.weights.detach().cpu().numpy() > 0),
    BalancedOrder: lambda sampler: sampler.members(),
    DistributedSampler: lambda sampler: np.arange(len(sampler.dataset)),
    **dict.fromkeys(_COLLECTIONS, _integers),
}
