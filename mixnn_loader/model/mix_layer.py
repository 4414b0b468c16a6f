"""Layers whose output is mixed in the training step, in place of inputs that cannot be averaged.

It is the mixing of manifold mixup (Verma et al., "Manifold Mixup", ICML 2019), at layers of one's choice. Hooks are on
the model from the moment that a batch is handed out until it has been trained on, and the next one is asked for or the
pass ends. They do nothing unless the model is in train mode: evaluations and the loader's own passes are as without.

A loop may fetch batches ahead, and train on them later. Which one the model gets is told by the memory that its inputs
are in.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mixnn_loader.model.hooks import name_of
from mixnn_loader.model.wrappers import compiled_inside, unwrap

MixLayer = nn.Module | str | Sequence[nn.Module | str]

NOT_CALLED = (
    "the layer of mix_layer= was not called in the training step, or only in a compiled model or one in eval mode: "
    "nothing was mixed in it. Train the module that the loader was given, in train mode and not compiled, or mix the "
    "inputs"
)


AMBIGUOUS = (
    "batches have been fetched ahead, and what the model got is none of them as it was handed out: how to "
    "mix in mix_layer= cannot be told. Move what the loop does to a batch before the model into the model, or fetch "
    "one at a time"
)

MOST_AHEAD = 64
"""Batches that are remembered until the model gets them."""


@dataclass(frozen=True)
class RowMix:
    """How the rows that a layer gives for one batch are mixed.

    Attributes:
        num_rows: R, those that the batch has.
        function: rows (R, ...) -> mixed rows (B, ...).
    """

    num_rows: int
    function: Callable[[Tensor], Tensor]


class MixLayers:
    """Mixes the output of layers while a batch is trained on.

    Args:
        model: the model being trained, in its wrappers.
        layers: modules of it or their dotted names, one or several.

    Raises:
        TypeError: a layer is neither.
        ValueError: a layer is not in the model, none is given, or the model is compiled.
    """

    def __init__(self, model: nn.Module, layers: MixLayer) -> None:
        inner = unwrap(model)
        if compiled_inside(model) is not None or getattr(inner, "_compiled_call_impl", None) is not None:
            raise ValueError("mix_layer= is for models that are not compiled: their layers are not called one by one")
        named = list(layers) if isinstance(layers, (tuple, list)) else [layers]
        if not named:
            raise ValueError("mix_layer must name a layer, got none")
        self._model = weakref.ref(inner)
        self._layers = [_found(inner, layer) for layer in named]
        self._names = [name_of(inner, layer) for layer in self._layers]
        self._armed = _Armed()
        self._handles: list[RemovableHandle] = []
        weakref.finalize(self, _remove, self._handles)

    def arm(self, mix: RowMix | None, inputs: Any) -> None:
        """Mix what the layers give when the model gets a batch, in train mode; None: leave it.

        Args:
            mix: how.
            inputs: the batch's, a nest of tensors.

        Raises:
            TypeError, ValueError: in the layer's call, if it gives something else than a tensor of the batch's rows.
        """
        self.release()
        waiting = self._armed.waiting
        if mix is not None:
            waiting[:] = [*waiting[1 - MOST_AHEAD :], _Waiting(mix, _places(inputs))]
        if waiting and not self._handles and (model := self._model()) is not None:
            self._handles.append(model.register_forward_pre_hook(_Arrival(self._armed), with_kwargs=True))
            for layer, name in zip(self._layers, self._names, strict=True):
                self._handles.append(layer.register_forward_hook(_Hook(self._model, name, self._armed)))

    def release(self) -> None:
        """Forget the batches that the model has got; if it has got all, leave it as it was."""
        waiting = self._armed.waiting
        waiting[:] = [batch for batch in waiting if batch.calls == 0]
        self._armed.current = None
        if not waiting:
            _remove(self._handles)

    @property
    def missed(self) -> bool:
        """Whether a layer has not been called since the last batch was handed out."""
        return any(batch.calls < len(self._layers) for batch in self._armed.waiting[-1:])

    def disarm(self) -> None:
        """Leave the model as it was."""
        self._armed.waiting.clear()
        self._armed.current = None
        _remove(self._handles)

    @contextmanager
    def checked(self, num_rows: int) -> Iterator[None]:
        """Check in every call of a layer, within the context, that what it gives can be mixed.

        Raises:
            TypeError, ValueError: in the layer's call, if it cannot.
        """
        handles = [
            layer.register_forward_hook(_Check(name, num_rows))
            for layer, name in zip(self._layers, self._names, strict=True)
        ]
        try:
            yield
        finally:
            _remove(handles)


class _Waiting:
    """A batch that the model has not got yet: how it is mixed, and the memory that its inputs are in."""

    def __init__(self, mix: RowMix, places: list[range]) -> None:
        self.mix, self.places, self.calls = mix, places, 0


class _Armed:
    """The batches that have been handed out, and the one that the model has got."""

    def __init__(self) -> None:
        self.waiting: list[_Waiting] = []
        self.current: _Waiting | None = None


class _Arrival:
    """Finds out which batch the model gets; in a copy of the model it does nothing."""

    def __init__(self, armed: _Armed | None = None) -> None:
        self._armed = armed

    def __call__(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        del model
        if self._armed is None or torch.compiler.is_compiling():
            return
        places = _places((args, kwargs))
        found = [batch for batch in self._armed.waiting if _meet(batch.places, places)]
        if not found and len(self._armed.waiting) == 1:
            found = self._armed.waiting
        # The memory of one that was left out may have become that of a later one.
        self._armed.current = found[-1] if found else None

    def __reduce__(self) -> tuple[type["_Arrival"], tuple[()]]:
        return _Arrival, ()


class _Hook:
    """Mixes a layer's output; in a copy of the model, as one makes for an average of its weights, it does nothing."""

    def __init__(
        self, model: Callable[[], nn.Module | None] | None = None, name: str = "", armed: _Armed | None = None
    ) -> None:
        self._model, self._name, self._armed = model, name, armed

    def __call__(self, layer: nn.Module, args: Any, output: Any) -> Any:
        del layer, args
        model = None if self._model is None else self._model()
        if self._armed is None or model is None or not model.training or torch.compiler.is_compiling():
            return None
        batch = self._armed.current
        if not torch.is_grad_enabled() and (batch is None or not _has_rows(output, batch.mix.num_rows)):
            return None  # an evaluation, for which the model was left in train mode
        if batch is None:
            raise RuntimeError(AMBIGUOUS)
        _check(output, self._name, batch.mix.num_rows)
        batch.calls += 1
        return batch.mix.function(output)

    def __reduce__(self) -> tuple[type["_Hook"], tuple[()]]:
        return _Hook, ()


class _Check:
    def __init__(self, name: str, num_rows: int) -> None:
        self._name, self._num_rows = name, num_rows

    def __call__(self, layer: nn.Module, args: Any, output: Any) -> None:
        del layer, args
        _check(output, self._name, self._num_rows)


def _places(nest: Any) -> list[range]:
    """Return which memory the tensors of a nest have, or those of whatever a model is called with.

    Not which storage: batches may be parts of one.
    """
    if isinstance(nest, Tensor):
        if nest.layout != torch.strided or nest.numel() == 0:
            return []
        last = sum((size - 1) * stride for size, stride in zip(nest.shape, nest.stride(), strict=True))
        return [range(nest.data_ptr(), nest.data_ptr() + (last + 1) * nest.itemsize)]
    values: Iterable[Any] = ()
    if isinstance(nest, Mapping):
        values = nest.values()
    elif isinstance(nest, (tuple, list)):
        values = nest
    return [place for value in values for place in _places(value)]


def _meet(some: list[range], others: list[range]) -> bool:
    return any(one.start < other.stop and other.start < one.stop for one in some for other in others)


def _has_rows(output: Any, num_rows: int) -> bool:
    return isinstance(output, Tensor) and output.shape[:1] == (num_rows,)


def _check(output: Any, name: str, num_rows: int) -> None:
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise TypeError(f"the output of mix_layer {name} must be a floating-point tensor to be mixed, got {kind}")
    if not _has_rows(output, num_rows):
        raise ValueError(
            f"the output of mix_layer {name} must have a row for each of the {num_rows} that the batch has, got shape "
            f"{tuple(output.shape)}; samples come first, and the model takes a batch as it is handed out, whole"
        )


def _remove(handles: list[RemovableHandle]) -> None:
    while handles:
        handles.pop().remove()


def _found(model: nn.Module, layer: Any) -> nn.Module:
    if isinstance(layer, str):
        modules: dict[str, nn.Module] = dict(model.named_modules())
        if layer not in modules:
            embeddings = [name for name, module in modules.items() if isinstance(module, nn.Embedding)]
            known = f"its embeddings: {', '.join(map(repr, embeddings))}" if embeddings else "it has no embedding"
            raise ValueError(f"mix_layer {layer!r} is not in the model; {known}")
        return modules[layer]
    if not isinstance(layer, nn.Module):
        raise TypeError(f"mix_layer must be a module of the model, its dotted name, or several, got {layer!r}")
    if not any(module is layer for module in model.modules()):
        raise ValueError(f"mix_layer {type(layer).__name__} is not one of the model's modules")
    return layer
