"""One batch: the mixed inputs and their targets."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mixnn_loader.method.targets import MixNNTargets


class _Pair(NamedTuple):
    inputs: Any
    targets: MixNNTargets


class MixNNBatch(_Pair):
    """One batch: ``for inputs, targets in loader`` or ``for batch in loader``, with extras after these if asked for.

    Of a dataset whose samples are mappings, ``batch["input_ids"]`` is a part of the inputs, and ``model(**batch)`` gets
    them by name.

    Args:
        inputs: see the attribute; or an iterable of both, as frameworks build a tuple anew, ``type(batch)(moved)``.
        targets: see the attribute.
        *extras: see the attribute.

    Attributes:
        inputs: the mixed inputs x̃ (B, ...) (Eq. 4), a tensor or the nest of tensors that the dataset gives.
        targets: the matching `MixNNTargets`.
        extras: what follows, what the dataset gives besides inputs and label.
    """

    __slots__ = ()

    def __new__(cls, inputs: Any, targets: MixNNTargets | None = None, *extras: Any) -> "MixNNBatch":
        """Make a batch of inputs and targets, or of an iterable of both."""
        parts = tuple(inputs) if targets is None else (inputs, targets, *extras)
        if targets is None and (len(parts) < 2 or not isinstance(parts[1], MixNNTargets)):
            raise TypeError("MixNNBatch takes inputs and targets, or an iterable of both, and got no MixNNTargets")
        return tuple.__new__(cls, parts)

    def _replace(self, **parts: Any) -> "MixNNBatch":
        """Return the batch with other ``inputs`` or ``targets``, as `collections.namedtuple` has it, and its extras."""
        return type(self)(*super()._replace(**parts), *self.extras)

    __replace__ = _replace  # of copy.replace

    @property
    def extras(self) -> tuple[Any, ...]:
        """What the dataset gives besides inputs and label."""
        return self[2:]

    def __repr__(self) -> str:
        """Show the parts."""
        extras = f", extras={self.extras!r}" if self.extras else ""
        return f"{type(self).__name__}(inputs={self.inputs!r}, targets={self.targets!r}{extras})"

    def keys(self) -> Any:
        """Return the names of the inputs, where they are a mapping.

        Raises:
            TypeError: they are none.
        """
        if not isinstance(self.inputs, Mapping):
            raise TypeError(
                f"the inputs of this batch have no names, they are a {type(self.inputs).__name__}; take batch.inputs"
            )
        return self.inputs.keys()

    def __contains__(self, key: object) -> bool:
        """Whether the inputs have a part of that name; of anything else, whether it is one of the pair."""
        if isinstance(key, str):
            return isinstance(self.inputs, Mapping) and key in self.inputs
        return super().__contains__(key)

    def __getitem__(self, key: Any) -> Any:
        """Return a part of the inputs by its name, or the inputs (0) or the targets (1).

        Raises:
            KeyError: the inputs have no such part; labels are not among them, but in ``batch.targets``.
        """
        if not isinstance(key, str):
            return super().__getitem__(key)
        if not isinstance(self.inputs, Mapping) or key not in self.inputs:
            known = list(self.inputs) if isinstance(self.inputs, Mapping) else "no names"
            raise KeyError(f"the inputs of this batch have {known}, not {key!r}; labels are in batch.targets")
        return self.inputs[key]
