"""What a state is made of: every entry is checked before any of it is taken over."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixnn_loader._utils.checks import shown
from mixnn_loader._utils.random_state import RandomState

STATE_VERSION = 9
"""Written into every state; a change of the format raises it."""

Check = Callable[[str, Any], None]
"""Raises a `ValueError` that names the entry if a value is not what stands there."""


def check_state(state: Mapping[str, Any]) -> None:
    """Check that a state is of this version and has all entries, each of its kind.

    The rows of the samples are checked by the table that takes them, and what only a sampler or a generator can tell
    shows when it takes its state.

    Raises:
        TypeError: it is no mapping.
        ValueError: it is no such state, or of another version, or an entry is missing or of another kind.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be what state_dict() of a MixNNDataLoader returned, got {type(state).__name__}")
    if "version" not in state:
        raise ValueError(
            f"this is no state of a MixNNDataLoader, its keys are {list(state)}; pass what its state_dict() returned, "
            "such as checkpoint['loader']"
        )
    version = state["version"]
    if type(version) is not int or version != STATE_VERSION:
        raise ValueError(
            f"the state is of version {version}, this library reads {STATE_VERSION}; load it with the release of "
            "mixnn_loader that saved it"
        )
    _STATE("state", state)


def _fits(name: str, value: Any, what: str, *, fits: bool) -> None:
    if not fits:
        raise ValueError(f"the {name} must be {what}, got {shown(value)}; is the checkpoint whole?")


def _count(name: str, value: Any) -> None:
    _fits(name, value, "an integer >= 0", fits=type(value) is int and value >= 0)


def _integer(name: str, value: Any) -> None:
    _fits(name, value, "an integer", fits=type(value) is int)


def _flag(name: str, value: Any) -> None:
    _fits(name, value, "True or False", fits=type(value) is bool)


def _anything(name: str, value: Any) -> None:
    del name, value


def _indices(name: str, value: Any) -> None:
    fits = isinstance(value, Tensor) and value.dim() == 1 and value.dtype == torch.int64 and bool((value >= 0).all())
    _fits(name, value, "a vector of dataset indices", fits=fits)


def _tally(name: str, value: Any) -> None:
    fits = isinstance(value, Tensor) and value.shape == (2, 2) and value.is_floating_point()
    _fits(name, value, "a floating-point tensor of shape (2, 2)", fits=fits)


def _generator_state(name: str, value: Any) -> None:
    fits = isinstance(value, Tensor) and value.dtype == torch.uint8 and value.dim() == 1
    _fits(name, value, "the state of a torch.Generator", fits=fits)


def _process(name: str, value: Any) -> None:
    fits = isinstance(value, Sequence) and len(value) == 2 and all(type(number) is int for number in value)
    _fits(name, value, "a process's rank and how many there are", fits=fits)


def _random_state(name: str, value: Any) -> None:
    _entries(python=_anything, numpy=_anything, torch=_generator_state)(name, value)
    try:  # on generators of its own, which alone can tell
        python, legacy, own = RandomState.from_state_dict(value)
        random.Random().setstate(python)
        np.random.RandomState().set_state(legacy)
        torch.Generator("cpu").set_state(own)
    except Exception as error:
        raise ValueError(
            f"the {name} must be those of three random generators: {error}; is the checkpoint whole?"
        ) from error


def _entries(**checks: Check) -> Check:
    """A mapping with these entries and maybe others."""

    def check(name: str, value: Any) -> None:
        _fits(name, value, "a mapping", fits=isinstance(value, Mapping))
        for key, check_entry in checks.items():
            if key not in value:
                raise ValueError(f"the {name} has no {key!r}, only {list(value)}; is the checkpoint whole?")
            check_entry(f"{name}'s {key}" if name == "state" else f"{name}, {key}", value[key])

    return check


def _each(check_entry: Check, check_key: Check = _anything) -> Check:
    """A mapping of any number of such values."""

    def check(name: str, value: Any) -> None:
        _fits(name, value, "a mapping", fits=isinstance(value, Mapping))
        for key, entry in value.items():
            check_key(f"{name}, the key {key!r}", key)
            check_entry(f"{name}, {key}", entry)

    return check


def _or_none(check_value: Check) -> Check:
    return lambda name, value: None if value is None else check_value(name, value)


def _records(name: str, value: Any) -> None:
    _fits(name, value, "a list of an entry an epoch", fits=isinstance(value, list))
    for number, record in enumerate(value):
        _entries(epoch=_count, phase=_anything)(f"{name}, entry {number}", record)


_SAMPLER_STATE = _entries(
    generators=_each(_generator_state),
    attributes=_each(_anything),
    samplers=_each(_anything),
    epochs=_each(_integer),
)

_STATE = _entries(
    num_neighbors=_count,
    process=_process,
    merged=_flag,
    batch=_count,
    epoch=_count,
    finished=_flag,
    trained=_count,
    estimated=_flag,
    pairs=_or_none(_tally),
    changes=_or_none(_tally),
    history=_records,
    phases=_entries(mixing=_count, correction=_or_none(_count)),
    samples=_each(_anything),
    sampler_state=_SAMPLER_STATE,
    within=_or_none(
        _entries(
            batch_size=_or_none(_count),
            part=_entries(first_batch=_count, first_sample=_count, offset=_integer, trained=_count),
            position=_entries(
                sampler_state=_SAMPLER_STATE,
                random_state=_random_state,
                num_drawn=_count,
                num_samples=_count,
                exhausted=_flag,
                checksum=_count,
                waiting=_each(_indices, _count),
            ),
        )
    ),
)
