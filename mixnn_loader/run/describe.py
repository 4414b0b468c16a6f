"""A loader in words."""

from collections.abc import Mapping
from dataclasses import fields
from types import FunctionType

from mixnn_loader.data.user_loader import length_of
from mixnn_loader.run.parts import Parts
from mixnn_loader.run.settings import Settings


def described(parts: Parts, epoch: int, defaults: Mapping[str, object]) -> str:
    """Say what is wrapped, where the training is, and which settings are not the defaults.

    Args:
        parts: the loader's.
        epoch: the one in progress or that comes.
        defaults: of the arguments.
    """
    settings, length = parts.settings, length_of(parts.wrapped)
    batches = "batches" if length is None else f"{length} batches"
    wrapped = f"{batches} of {type(parts.wrapped.dataset).__name__} ({parts.num_samples} samples)"
    warmup, model = parts.schedule.warmup, type(parts.view.model).__name__
    correction = settings.correction
    is_most = "at most " if settings.warmup_epochs == "settled" and epoch < warmup else ""
    changed = _changed(settings, defaults)
    return (
        f"MixNNDataLoader({wrapped}, {model}; epoch {epoch}, {settings.phase(epoch, warmup)}; "
        f"warm-up {is_most}{warmup}, correction from "
        f"{'no epoch' if correction is None else f'epoch {max(correction, warmup)}'}"
        f"{''.join(f'; {name}={_shown(value)}' for name, value in changed.items())})"
    )


def _shown(value: object) -> str:
    """Show a value in one line, and an object that has no words of its own by its name."""
    if isinstance(value, FunctionType):
        return value.__qualname__
    if type(value).__repr__ is object.__repr__:
        return f"{type(value).__name__}(...)"
    return " ".join(repr(value).split())


def _changed(settings: Settings, defaults: Mapping[str, object]) -> dict[str, object]:
    given = {field.name: getattr(settings, field.name) for field in fields(settings) if field.init}
    return {name: value for name, value in given.items() if value != defaults[name]}
