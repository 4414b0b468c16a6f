"""Layers whose output is mixed in the training step, in place of inputs that cannot be averaged.

It is the mixing of manifold mixup (Verma et al., "Manifold Mixup", ICML 2019), at layers of one's choice. As long as
the inputs of a batch live, hooks on the model know them when they come: in train mode, what a layer makes of them is
mixed. Whatever else the model gets, evaluations and the loader's own passes included, goes through as without.

A batch is known by its tensors. It has to reach the model, or the layer, as it was handed out; where it did not, and
was trained on, that is told.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mixnn_loader.model.hooks import Hook, name_of
from mixnn_loader.model.wrappers import compiled_inside, unwrap

MixLayer = nn.Module | str | Sequence[nn.Module | str]

NOT_MIXED = (
    "a batch was trained on that did not reach every layer of mix_layer= as it was: train the module that the loader "
    "was given, in train mode and not compiled, and give it the inputs as they were handed out. What the loop does to "
    "them, such as a copy or another type, belongs into the dataset or into the model"
)

AMBIGUOUS = (
    "which batch is computed again in the backward pass cannot be told, and so not how to mix in mix_layer=: take the "
    "backward pass of one batch before the forward pass of the next, or mix in the layer that takes the inputs"
)


@dataclass(frozen=True)
class RowMix:
    """How the rows that a layer gives for one batch are mixed.

    Attributes:
        num_rows: R, those that the batch has.
        function: rows (R, ...) -> mixed rows (B, ...).
    """

    num_rows: int
    function: Callable[[Tensor], Tensor]


class Waiting:
    """A batch that has been handed out.

    Args:
        mix: how it is mixed.
        inputs: the tensors that go to the layers; they are not kept alive.

    Attributes:
        mixed: numbers of the layers in which it has been mixed.
    """

    def __init__(self, mix: RowMix, inputs: Sequence[Tensor]) -> None:
        self.mix = mix
        self.mixed: set[int] = set()
        self._inputs = [(weakref.ref(tensor), memory) for tensor in inputs for memory in _memory(tensor)]

    @property
    def lives(self) -> bool:
        """Whether somebody has its inputs: else their memory may be that of others."""
        return bool(self._inputs) and all(tensor() is not None for tensor, _ in self._inputs)

    def is_in(self, memory: Sequence[range]) -> bool:
        """Whether all of its inputs are in some memory."""
        return self.lives and all(
            any(own.start < other.stop and other.start < own.stop for other in memory) for _, own in self._inputs
        )


class MixLayers:
    """Mixes the output of layers when the model gets a batch.

    Args:
        model: the model being trained, in its wrappers.
        layers: modules of it or their dotted names, one or several.

    Attributes:
        modules: the layers, by their dotted names in quotes, as messages have them.

    Raises:
        TypeError: a layer is neither.
        ValueError: a layer is not in the model, or within another one, none is given, or the model is compiled or
            divides batches.
    """

    def __init__(self, model: nn.Module, layers: MixLayer) -> None:
        inner = unwrap(model)
        if compiled_inside(model) is not None or getattr(inner, "_compiled_call_impl", None) is not None:
            raise ValueError("mix_layer= is for models that are not compiled: their layers are not called one by one")
        if isinstance(model, nn.DataParallel):
            raise ValueError("mix_layer= is not for DataParallel, which divides batches; take DistributedDataParallel")
        named = [layers] if isinstance(layers, (str, nn.Module)) or not isinstance(layers, Iterable) else list(layers)
        if not named:
            raise ValueError("mix_layer must name a layer, got none")
        self._model = weakref.ref(inner)
        found = list(dict.fromkeys(_found(inner, layer) for layer in named))
        self.modules = {name_of(inner, layer): layer for layer in found}
        for name, outer in self.modules.items():
            if any(other is not outer and other in set(outer.modules()) for other in found):
                raise ValueError(f"mix_layer has {name} and a layer within it, where its output would be mixed twice")
        self._out = _Out()
        weakref.finalize(self, self._out.clear)

    def hand_out(self, mix: RowMix, inputs: Sequence[Tensor]) -> Waiting:
        """Know a batch from now on, as long as its inputs live.

        Args:
            mix: how its rows are mixed.
            inputs: its tensors that go to the layers.

        Raises:
            TypeError, ValueError: in a layer's call, if it gives something else than a tensor of the batch's rows.
        """
        out, model = self._out, self._model()
        out.batches[:] = [batch for batch in out.batches if batch.lives]
        out.batches.append(Waiting(mix, inputs))
        for tensor in inputs:
            weakref.finalize(tensor, _let_go, weakref.ref(out)).atexit = False
        if not out.handles and model is not None:
            out.handles.append(model.register_forward_pre_hook(Hook(out.arrive), with_kwargs=True))
            out.handles.append(model.register_forward_hook(Hook(out.depart), always_call=True))
            for number, (name, layer) in enumerate(self.modules.items()):
                out.handles.append(layer.register_forward_hook(Hook(_Mixing(self._model, number, name, out))))
        return out.batches[-1]

    def check(self, batch: Waiting) -> None:
        """Check that a batch that has been trained on was mixed.

        Raises:
            RuntimeError: it was not, in a layer or in all.
        """
        if len(batch.mixed) < len(self.modules):
            self.clear()
            raise RuntimeError(NOT_MIXED)

    def clear(self) -> None:
        """Know no batch, and leave the model as it was."""
        self._out.clear()


class _Out:
    """The batches that are out, the one that the model is at, and the hooks.

    Attributes:
        batches: those that live.
        current: what the model is being called with; None: something else, or it is not being called.
        handles: of the hooks.
    """

    def __init__(self) -> None:
        self.batches: list[Waiting] = []
        self.current: Waiting | None = None
        self.handles: list[RemovableHandle] = []

    def found(self, nest: Any) -> Waiting | None:
        """Return the batch whose inputs are in a nest, the latest of several."""
        memory = list(_memory(nest))
        found = [batch for batch in self.batches if batch.is_in(memory)]
        return found[-1] if found else None

    def arrive(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Find out which batch the model gets."""
        if model.training and not torch.compiler.is_compiling():
            self.current = self.found((args, kwargs))

    def depart(self, *_: Any) -> None:
        """Note that the model has been called, whether the call came to an end or not."""
        self.current = None

    def clear(self) -> None:
        """Know no batch, and leave the model as it was."""
        self.batches.clear()
        self.current = None
        while self.handles:
            self.handles.pop().remove()


def _let_go(out: "weakref.ref[_Out]") -> None:
    """Take the hooks away when the last batch is gone."""
    if (there := out()) is not None:
        there.batches[:] = [batch for batch in there.batches if batch.lives]
        if not there.batches and there.current is None:
            there.clear()


class _Mixing:
    """Mixes a layer's output."""

    def __init__(self, model: Callable[[], nn.Module | None], number: int, name: str, out: _Out) -> None:
        self._model, self._number, self._name, self._out = model, number, name, out

    def __call__(self, layer: nn.Module, args: Any, output: Any) -> Any:
        del layer
        model = self._model()
        if model is None or not model.training or torch.compiler.is_compiling():
            return None
        # A layer that takes the inputs knows the batch by them, whoever calls it; a hidden one by the model's call.
        batch = self._out.found(args) or self._out.current or self._computed_again()
        if batch is None:
            return None
        check_output(output, self._name, batch.mix.num_rows)
        batch.mixed.add(self._number)
        return batch.mix.function(output)

    def _computed_again(self) -> Waiting | None:
        """Return the batch of a checkpointed part of the model that is computed again in the backward pass."""
        if torch._C._current_graph_task_id() == -1:  # noqa: SLF001  (there is no public way to ask)
            return None
        been_here = [batch for batch in self._out.batches if self._number in batch.mixed]
        if len(been_here) > 1:
            raise RuntimeError(AMBIGUOUS)
        return been_here[0] if been_here else None


def _memory(nest: Any) -> Iterator[range]:
    """Give the memory that the tensors of a nest have, or those of whatever a model is called with.

    Not their storage: batches may be parts of one. Of some tensors, as within torch.func's transforms, it is not known.
    """
    if isinstance(nest, Tensor):
        if nest.layout == torch.strided and nest.numel() > 0:
            last = sum((size - 1) * stride for size, stride in zip(nest.shape, nest.stride(), strict=True))
            try:
                start = nest.data_ptr()
            except RuntimeError:
                return
            yield range(start, start + (last + 1) * nest.itemsize)
        return
    values: Iterable[Any] = ()
    if isinstance(nest, Mapping):
        values = nest.values()
    elif isinstance(nest, (tuple, list)):
        values = nest
    for value in values:
        yield from _memory(value)


def _has_rows(output: Any, num_rows: int) -> bool:
    return isinstance(output, Tensor) and output.shape[:1] == (num_rows,)


def check_output(output: Any, name: str, num_rows: int) -> None:
    """Check that what a layer gives can be mixed.

    Raises:
        TypeError: it is no floating-point tensor.
        ValueError: it has other rows than the batch.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise TypeError(f"the output of mix_layer {name} must be a floating-point tensor to be mixed, got {kind}")
    if not _has_rows(output, num_rows):
        raise ValueError(
            f"the output of mix_layer {name} must have a row for each of the {num_rows} that the batch has, got shape "
            f"{tuple(output.shape)}; samples come first, and the model takes a batch as it is handed out, whole"
        )


def _found(model: nn.Module, layer: Any) -> nn.Module:
    if isinstance(layer, str):
        modules: dict[str, nn.Module] = dict(model.named_modules())
        if layer not in modules or modules[layer] is model:
            embeddings = [name for name, module in modules.items() if isinstance(module, nn.Embedding)]
            known = f"its embeddings: {', '.join(map(repr, embeddings))}" if embeddings else "it has no embedding"
            raise ValueError(f"mix_layer {layer!r} is not in the model; {known}")
        return modules[layer]
    if not isinstance(layer, nn.Module):
        raise TypeError(f"mix_layer must be a module of the model, its dotted name, or several, got {layer!r}")
    if not any(module is layer for module in model.modules()):
        raise ValueError(f"mix_layer {type(layer).__name__} is not one of the model's modules")
    return layer
