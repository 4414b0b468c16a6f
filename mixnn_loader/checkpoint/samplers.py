"""What the user's own samplers draw their order from, to be saved and put back."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mixnn_loader._utils.generators import GENERATORS, set_state, state_of
from mixnn_loader._utils.warn import warn_user
from mixnn_loader.data.user_loader import generators_of, samplers_of


@dataclass(frozen=True)
class SamplerState:
    """The states of the generators and samplers of a loader.

    Attributes:
        generators: by the name of their owner: those that the user gave to the loader or its samplers.
        attributes: by ``owner.attribute``: other generators of the samplers, of PyTorch, NumPy or Python.
        samplers: by name: what ``state_dict()`` of those samplers says that have one.
        epochs: by name: the epoch of those samplers that have a ``set_epoch``, as `DistributedSampler` does.
    """

    generators: dict[str, Tensor]
    attributes: dict[str, Any]
    samplers: dict[str, Any]
    epochs: dict[str, int]

    @classmethod
    def of(cls, loader: DataLoader[Any]) -> "SamplerState":
        """Read the states."""
        samplers = samplers_of(loader).items()
        return cls(
            {name: generator.get_state() for name, generator in generators_of(loader).items()},
            {name: _state_of(generator) for name, generator in _attributes_of(loader).items()},
            {name: copy.deepcopy(sampler.state_dict()) for name, sampler in samplers if _is_stateful(sampler)},
            {name: sampler.epoch for name, sampler in samplers if _has_epoch(sampler)},
        )

    def restore(self, loader: DataLoader[Any]) -> None:
        """Put back the states of the generators and samplers that the loader has.

        Raises:
            ValueError: a generator cannot take its state.
            Exception: what a sampler's ``load_state_dict`` raises.
        """
        self.restore_generators(loader)
        for name in samplers_of(loader):
            self._restore_sampler(loader, name)

    def restore_generators(self, loader: DataLoader[Any]) -> None:
        """Put back the states of the generators only.

        Raises:
            ValueError: a generator cannot take its state.
        """
        for name, generator in generators_of(loader).items():
            if name in self.generators:
                _set_state(name, generator, self.generators[name])
        for name, attribute in _attributes_of(loader).items():
            if name in self.attributes:
                _set_state(name, attribute, self.attributes[name])

    def restore_epochs(self, loader: DataLoader[Any]) -> None:
        """Put back the epochs only."""
        for name, sampler in samplers_of(loader).items():
            if name in self.epochs and _has_epoch(sampler):
                sampler.set_epoch(self.epochs[name])

    def put_back(self, loader: DataLoader[Any]) -> None:
        """Put back these states, which were read of this loader, whatever one of its samplers raises."""
        self.restore_generators(loader)
        for name in samplers_of(loader):
            with suppress(Exception):
                self._restore_sampler(loader, name)

    def _restore_sampler(self, loader: DataLoader[Any], name: str) -> None:
        sampler = samplers_of(loader)[name]
        if name in self.samplers and _is_stateful(sampler):
            sampler.load_state_dict(copy.deepcopy(self.samplers[name]))
        if name in self.epochs and _has_epoch(sampler):
            sampler.set_epoch(self.epochs[name])

    def warn_of_missing(self, loader: DataLoader[Any]) -> None:
        """Warn of generators that the loader does not have.

        Warns:
            UserWarning: there is such a generator.
        """
        if missing := [name for name in self.generators if name not in generators_of(loader)]:
            warn_user(f"the state has generators for {', '.join(missing)}, this loader has none: the order will differ")

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and primitives, if the samplers' own states are made of such."""
        return {
            "generators": self.generators,
            "attributes": self.attributes,
            "samplers": self.samplers,
            "epochs": self.epochs,
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "SamplerState":
        """Take over what `state_dict` returned."""
        generators = {name: generator.cpu() for name, generator in state["generators"].items()}
        return cls(generators, dict(state["attributes"]), dict(state["samplers"]), dict(state["epochs"]))


@contextmanager
def put_back_on_error(loader: DataLoader[Any]) -> Iterator[None]:
    """Put the generators and samplers of a loader back as they were if an error is raised."""
    before = SamplerState.of(loader)
    try:
        yield
    except Exception:
        before.put_back(loader)
        raise


def _is_stateful(sampler: Any) -> bool:
    return callable(getattr(sampler, "state_dict", None)) and callable(getattr(sampler, "load_state_dict", None))


def _has_epoch(sampler: Any) -> bool:
    return callable(getattr(sampler, "set_epoch", None)) and isinstance(getattr(sampler, "epoch", None), int)


def _attributes_of(loader: DataLoader[Any]) -> dict[str, Any]:
    return {
        f"{owner}.{name}": value
        for owner, sampler in samplers_of(loader).items()
        for name, value in getattr(sampler, "__dict__", {}).items()
        if isinstance(value, GENERATORS) and not (isinstance(value, torch.Generator) and name == "generator")
    }


def _state_of(generator: Any) -> Any:
    return _with_tensors(state_of(generator))


def _set_state(name: str, generator: Any, state: Any) -> None:
    """Put a generator where it was.

    Raises:
        ValueError: it is none of its states.
    """
    try:
        set_state(generator, state.cpu() if isinstance(generator, torch.Generator) else _with_arrays(state))
    except Exception as error:
        raise ValueError(
            f"what the state has for the generator of {name} is no state of a {type(generator).__name__}: {error}"
        ) from error


def _with_tensors(state: Any) -> Any:
    """Replace the arrays in a NumPy generator's state, which a file of tensors and primitives cannot hold."""
    if isinstance(state, dict):
        return {name: _with_tensors(value) for name, value in state.items()}
    return torch.from_numpy(state.copy()) if isinstance(state, np.ndarray) else state


def _with_arrays(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _with_arrays(value) for name, value in state.items()}
    return state.cpu().numpy() if isinstance(state, Tensor) else state
