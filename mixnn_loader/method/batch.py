"""What an epoch yields: mixed inputs, and everything that a loss or a curious user needs to know of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from mixnn_loader.method.early_learning import EarlyLearning
from mixnn_loader.method.mixing import mix_targets
from mixnn_loader.method.receipt import Receipt

_TENSORS = ("soft_targets", "weights", "labels", "groups")


@dataclass(frozen=True, eq=False)
class MixNNTargets:
    """The targets of one batch of B samples, each mixed with its K neighbors, over C classes.

    During warm-up K is 0: one-hot targets of weight one.

    Attributes:
        soft_targets: (B, K+1, C) float, t of the sample itself (column 0) and of its neighbors.
        weights: (B, K+1) float, λ of the sample (column 0) and β of its neighbors; a row sums to one.
        labels: (B,) int64, the labels as given by the dataset.
        groups: (B, K+1) int64, dataset indices of the sample itself (column 0) and of its neighbors.
        receipt: by which the loss tells the loader that the batch has been trained on; None for targets of one's own.
        early_learning: what `MixNNLoss` adds the early-learning term from; None: it adds none.
    """

    soft_targets: Tensor
    weights: Tensor
    labels: Tensor
    groups: Tensor
    receipt: Receipt | None = field(default=None, repr=False)
    early_learning: EarlyLearning | None = field(default=None, repr=False)

    @property
    def indices(self) -> Tensor:
        """(B,) int64, the samples' dataset indices."""
        return self.groups[:, 0]

    @property
    def neighbors(self) -> Tensor:
        """(B, K) int64, the neighbors' dataset indices."""
        return self.groups[:, 1:]

    @property
    def mixed(self) -> Tensor:
        """The mixed target ỹ = λ t_i + Σ β t_k, (B, C) (Eq. 5 with t for y)."""
        return mix_targets(self.soft_targets, self.weights)

    @property
    def shape(self) -> torch.Size:
        """``torch.Size([B])``, as class indices would have it: frameworks count samples by it."""
        return self.labels.shape

    def size(self, dim: int | None = None) -> Any:
        """Return the `shape`, or its entry ``dim``."""
        return self.shape if dim is None else self.shape[dim]

    def __len__(self) -> int:
        """Return the number of samples in the batch."""
        return self.labels.shape[0]

    def __repr__(self) -> str:
        """Say how much there is, and where, in one line."""
        batch_size, width, num_classes = self.soft_targets.shape
        return (
            f"{type(self).__name__}({batch_size} samples, {width - 1} neighbors each, {num_classes} classes, "
            f"device={str(self.labels.device)!r})"
        )

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> "MixNNTargets":
        """Return the targets on ``device``; as `torch.Tensor.to`, it copies only what is not there yet."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def cuda(self, device: torch.device | str | int | None = None, non_blocking: bool = False) -> "MixNNTargets":
        """Return the targets on a CUDA device, by default the current one."""
        return self.to("cuda" if device is None else device, non_blocking)

    def pin_memory(self) -> "MixNNTargets":
        """Return the targets in page-locked memory."""
        return self._with(lambda tensor: tensor.pin_memory())

    def __eq__(self, other: object) -> Any:
        """Compare the labels, as given, with class indices (B,): ``predictions == targets`` is (B,) bool.

        Raises:
            ValueError: the tensor has another shape.
        """
        if not isinstance(other, Tensor):
            return NotImplemented
        if other.shape != self.labels.shape:
            raise ValueError(
                f"MixNNTargets can be compared with class indices of shape {tuple(self.labels.shape)}, got "
                f"{tuple(other.shape)}; take logits.argmax(dim=1), or compare with targets.labels or targets.mixed"
            )
        return self.labels == other

    def __ne__(self, other: object) -> Any:
        """Tell where `__eq__` is False."""
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else ~equal

    __hash__ = object.__hash__

    def __getitem__(self, rows: Any) -> NoReturn:
        """Refuse to be taken apart.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "MixNNTargets go with their batch as a whole: the loader goes by what the model says of each sample. For "
            "smaller steps take a smaller batch_size, and accumulate gradients; rows of one part are "
            "targets.labels[rows] or targets.mixed[rows]"
        )

    def __getattr__(self, name: str) -> NoReturn:
        """Say where to look for what a tensor of class indices would have.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(
            f"MixNNTargets has no attribute {name!r}; it is no tensor: its length is len(targets), the labels as given "
            "are targets.labels, and the mixed targets targets.mixed"
        )

    def _with(self, function: Callable[[Tensor], Tensor]) -> "MixNNTargets":
        changes: dict[str, Any] = {name: function(getattr(self, name)) for name in _TENSORS}
        if (early := self.early_learning) is not None:
            changes["early_learning"] = replace(early, averages=function(early.averages))
        return replace(self, **changes)

    @classmethod
    def __torch_function__(cls, function: Callable[..., Any], *_: Any) -> NoReturn:
        """Refuse to stand for a tensor, as in the loss function of a plain loop.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"{function.__name__} got MixNNTargets where it takes a tensor; use MixNNLoss for the loss, "
            "targets.mixed for the probabilities that go with the mixed inputs, or targets.labels for the labels as "
            "given, which do not"
        )


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
