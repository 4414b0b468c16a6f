"""Random numbers that leave the user's alone, and that depend on nothing but where in the training they are."""

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class RandomState(NamedTuple):
    """The states of the global CPU generators of Python, NumPy and PyTorch."""

    python: Any
    numpy: Any
    torch: Tensor

    @classmethod
    def now(cls) -> "RandomState":
        """Read the generators."""
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state())

    def restore(self) -> None:
        """Put the generators back."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and primitives."""
        name, keys, *rest = self.numpy
        return {
            "python": self.python,
            "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
            "torch": self.torch,
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "RandomState":
        """Take over what `state_dict` returned."""
        name, keys, *rest = state["numpy"]
        return cls(state["python"], (name, keys.cpu().numpy().astype(np.uint32), *rest), state["torch"].cpu())


class Stream(IntEnum):
    """What is drawn at one place of the training: sets its random numbers apart from the other draws there."""

    SCAN = 0
    """Transforms of the samples that are scanned."""
    NEIGHBORS = 1
    """Neighbors to be loaded with a batch, and the seed of their transforms."""
    WEIGHTS = 2
    """Weights of a batch."""
    PAIRING = 3
    """Neighbors within a batch."""
    SCAN_ORDER = 4
    """The order of the scan."""
    WORKERS = 5
    """Seeds of workers that are started without a number of the user's."""
    REHEARSAL = 6
    """What is tried on the first batch."""
    REHEARSED_SAMPLES = 7
    """Transforms of the samples that are loaded for it."""


def derived_rng(seed: int, *position: int) -> np.random.Generator:
    """Make a generator for one place of the training, for instance ``(epoch, batch)``.

    A resumed run thus draws what the uninterrupted one would have, with no generator state to be saved. Positions
    that differ only in zeros at the end are the same place.

    Example:
        >>> bool(derived_rng(0, 3, 7).integers(100) == derived_rng(0, 3, 7).integers(100))
        True
    """
    return np.random.default_rng([seed, *position])


@contextmanager
def kept_random_state(devices: Iterable[torch.device] = ()) -> Iterator[None]:
    """Put the global CPU generators of Python, NumPy and PyTorch back as they were on leaving.

    Args:
        devices: whose generators are put back, too. Reading one does not wait for its device.
    """
    before, generators = RandomState.now(), _generators_of(devices)
    states = [module.get_rng_state(*which) for module, which in generators]
    try:
        yield
    finally:
        before.restore()
        for (module, which), state in zip(generators, states, strict=True):
            module.set_rng_state(state, *which)


def stream_positions(devices: Iterable[torch.device] = ()) -> list[Any]:
    """Return what is equal as long as nobody draws from the global CPU generators or those of ``devices``."""
    now = RandomState.now()
    _, keys, *rest = now.numpy
    states = [module.get_rng_state(*which) for module, which in _generators_of(devices)]
    return [now.python, keys.tolist(), rest, now.torch.tolist(), *(state.tolist() for state in states)]


def _generators_of(devices: Iterable[torch.device]) -> list[tuple[Any, tuple[torch.device, ...]]]:
    """Return the modules that have the devices' generators, as `torch.cuda`, and their argument that says which."""
    return [
        (getattr(torch, device.type), () if device.type == "mps" else (device,))  # of MPS there is one
        for device in devices
        if hasattr(getattr(torch, device.type, None), "set_rng_state")
    ]


@contextmanager
def forked_random_state(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and PyTorch, and put them back as they were on leaving.

    A dataset's random transforms draw from these; those that run on a GPU, from that of PyTorch's current CUDA device,
    if the program has one. Under this context an extra pass over the data leaves the numbers that the user's own pass
    will draw unchanged.

    Args:
        seed: an integer in [0, 2**32), NumPy's range.
    """
    devices = _current_cuda_device()
    with kept_random_state(devices):
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield


def _current_cuda_device() -> list[torch.device]:
    """Return the current device; none where CUDA was not used, as in a worker: to ask would start it there."""
    is_started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # PyTorch gives it no types
    return [torch.device("cuda", torch.cuda.current_device())] if is_started else []
