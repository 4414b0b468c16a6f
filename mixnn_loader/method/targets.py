"""The targets of one batch: everything that a loss or a curious user needs to know of the mixed inputs."""

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, overload

import torch
from torch import Tensor

from mixnn_loader.method.early_learning import EarlyLearning
from mixnn_loader.method.mixing import mix_targets
from mixnn_loader.method.receipt import Receipt

_TENSORS = ("soft_targets", "weights", "labels", "groups")

_INSTEAD = (
    "use MixNNLoss for the loss, targets.mixed for the probabilities that go with the mixed inputs, or targets.labels "
    "for the labels as given, which do not"
)

_AS_A_WHOLE = (
    "MixNNTargets go with their batch as a whole: the loader goes by what the model says of each sample. For smaller "
    "steps take a smaller batch_size, and accumulate gradients; rows of one part are targets.labels[rows] or "
    "targets.mixed[rows]"
)


class _Rest(bytes):
    """The parts of targets that are no tensors.

    It is an empty string of bytes: what moves the tensors of a mapping leaves these as they are (Ignite, PyTorch,
    Hugging Face), and what counts its samples by its parts (Lightning) finds nothing in it.

    Attributes:
        num_samples: B.
        receipt: see `MixNNTargets`.
        early_learning: likewise; its averages give way to those that have been moved.
    """

    num_samples: int
    receipt: Receipt | None
    early_learning: EarlyLearning | None

    def to(self, *_: Any, **__: Any) -> "_Rest":
        """Stay where it is: some call this of whatever a mapping holds (skorch)."""
        return self

    def __int__(self) -> NoReturn:
        """Refuse to become a tensor, as skorch would make of targets before the loss.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"MixNNTargets cannot become a tensor; {_INSTEAD}")


@dataclass(frozen=True, eq=False, init=False)
class MixNNTargets:
    """The targets of one batch of B samples, each mixed with its K neighbors, over C classes.

    During warm-up K is 0: one-hot targets of weight one.

    They stand in the place of class indices (B,): their length is B, and they compare with class indices. They are a
    mapping, too, so that frameworks can copy them that know only tensors, lists and mappings: ``type(targets)({name:
    copy(part) for name, part in targets.items()})`` are the same targets elsewhere.

    Args:
        soft_targets: see the attribute, as of all others; or a mapping of all parts, as `items` gives them, and nothing
            else.

    Raises:
        TypeError: an argument is missing, or parts are others than `items` gives, or of fewer samples.

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

    @overload
    def __init__(self, soft_targets: Mapping[str, Any]) -> None: ...

    @overload
    def __init__(
        self,
        soft_targets: Tensor,
        weights: Tensor,
        labels: Tensor,
        groups: Tensor,
        receipt: Receipt | None = None,
        early_learning: EarlyLearning | None = None,
    ) -> None: ...

    def __init__(
        self,
        soft_targets: Tensor | Mapping[str, Any],
        weights: Tensor | None = None,
        labels: Tensor | None = None,
        groups: Tensor | None = None,
        receipt: Receipt | None = None,
        early_learning: EarlyLearning | None = None,
    ) -> None:
        parts: dict[str, Any] = {"receipt": receipt, "early_learning": early_learning}
        others = {"weights": weights, "labels": labels, "groups": groups}
        if isinstance(soft_targets, Mapping):
            if surplus := [name for name, part in (parts | others).items() if part is not None]:
                raise TypeError(f"MixNNTargets takes nothing beside a mapping of its parts, and got {surplus}")
            parts = _fields_of(soft_targets)
        elif missing := [name for name, part in others.items() if part is None]:
            raise TypeError(f"MixNNTargets takes {', '.join(_TENSORS)}, and got no {', '.join(missing)}")
        else:
            parts |= {"soft_targets": soft_targets, **others}
        for name, part in parts.items():
            object.__setattr__(self, name, part)

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

    def keys(self) -> KeysView[str]:
        """Return the names of the parts, as a mapping does."""
        return self._parts().keys()

    def values(self) -> ValuesView[Any]:
        """Return the parts: tensors, and what goes with them."""
        return self._parts().values()

    def items(self) -> ItemsView[str, Any]:
        """Return names and parts."""
        return self._parts().items()

    def get(self, name: str, default: Any = None) -> Any:
        """Return a part by its name, or ``default`` where there is none."""
        return self._parts().get(name, default)

    def __contains__(self, name: object) -> bool:
        """Whether there is a part of that name.

        Raises:
            TypeError: something else than a name is asked for, such as a class.
        """
        if not isinstance(name, str):
            raise TypeError(_AS_A_WHOLE)
        return name in self._parts()

    def __iter__(self) -> Iterator[str]:
        """Go through the names of the parts, as a mapping does; samples are not to be had one by one."""
        return iter(self._parts())

    def __getitem__(self, name: Any) -> Any:
        """Return a part by its name; refuse to be taken apart into samples.

        Raises:
            KeyError: there is no part of that name.
            TypeError: samples are asked for.
        """
        if isinstance(name, str):
            return self._parts()[name]
        raise TypeError(_AS_A_WHOLE)

    def __getattr__(self, name: str) -> NoReturn:
        """Say where to look for what a tensor of class indices would have.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(
            f"MixNNTargets has no attribute {name!r}; it is no tensor: its length is len(targets), the labels as given "
            "are targets.labels, and the mixed targets targets.mixed"
        )

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {name: getattr(self, name) for name in _TENSORS}
        if self.early_learning is not None:
            parts["averages"] = self.early_learning.averages
        rest = _Rest()
        rest.num_samples = len(self)
        rest.receipt, rest.early_learning = self.receipt, self.early_learning
        return parts | {"rest": rest}

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
        raise TypeError(f"{function.__name__} got MixNNTargets where it takes a tensor; {_INSTEAD}")

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse to become an array: NumPy would make one of the names of the parts.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"numpy.asarray got MixNNTargets where it takes a tensor; {_INSTEAD}")


Mapping.register(MixNNTargets)  # and no subclass: its length is the number of samples


def _fields_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of targets by the parts that `MixNNTargets.items` gives.

    Raises:
        TypeError: they are others, or of fewer samples.
    """
    rest = parts.get("rest")
    names = (*_TENSORS, "averages") if isinstance(rest, _Rest) and rest.early_learning is not None else _TENSORS
    if not isinstance(rest, _Rest) or not set(names) <= set(parts.keys()):
        raise TypeError(
            f"MixNNTargets takes its parts as targets.items() gives them, {', '.join(names)} and rest, and got "
            f"{', '.join(map(str, parts.keys()))}"
        )
    if any(len(parts[name]) != rest.num_samples for name in names):
        raise TypeError(_AS_A_WHOLE)
    early = rest.early_learning
    if early is not None:
        early = replace(early, averages=parts["averages"])
    return {name: parts[name] for name in _TENSORS} | {"receipt": rest.receipt, "early_learning": early}
