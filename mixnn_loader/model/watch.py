"""The first training step, watched once: does the model get what the loader gave?"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mixnn_loader._utils.nested import map_tensors, tensors_of
from mixnn_loader.model.difference import Given, difference, expected
from mixnn_loader.model.hooks import Hook
from mixnn_loader.model.prepare import Prepare
from mixnn_loader.model.wrappers import calls_inside, compiled_inside

MAX_CALLS = 16
"""So many calls of a step are compared with the batch."""


class Seen(NamedTuple):
    """What was seen of the first training step.

    Attributes:
        with_gradients: a parameter of the model requires gradient; gradient mode was on.
        training: the model's flag.
        difference: how what the model got differs from what the loader gave, as a clause for a message; None: it does
            not, or that cannot be told.
        prepared: what the loader gave went through ``prepare`` before it was compared.
    """

    with_gradients: bool
    training: bool
    difference: str | None
    prepared: bool = False


class Watch:
    """Looks at what the user's loop gives to the model, by a hook that takes itself away.

    The first call of the model in gradient mode is the step's; those without are evaluations, or the loader's own.
    Where it did not get the batch, the calls after it are compared, too, until one did or the watch is closed: a step
    may start with data that are not the loader's. Only these calls wait for the device. The model gets and computes
    what it would without.

    Modules that were compiled in place or scripted are not watched: the hook would become part of what they are.

    Args:
        model: as the user gave it, in its wrappers.
        inputs: the batch as the loader hands it out, a nest of tensors; copied, as the loop may work in place.
        prepare: as for `mixnn_loader.model.predictor.ModelView`.

    Attributes:
        seen: what was seen; None as long as the model was not called in gradient mode.
    """

    def __init__(self, model: nn.Module, inputs: Any, prepare: Prepare | None = None) -> None:
        self.seen: Seen | None = None
        self._prepare = prepare
        self._calls = 0
        self._inputs: Any = None
        self._given: Given | None = None
        self._outermost = model
        self._handles: list[RemovableHandle] = []  # the outermost module's first
        for module in _watched(model):
            self._handles.append(module.register_forward_pre_hook(Hook(self._look), with_kwargs=True))
        if self._handles:
            self._inputs = map_tensors(lambda tensor: tensor.detach().clone(), inputs)

    def close(self) -> None:
        """Take the hooks away, and let the batch go."""
        self._remove_hooks()
        self._inputs = self._given = None

    def _look(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            return
        if not self._handles or not torch.is_grad_enabled() or _records_graph(tensors_of(self._inputs)):
            return
        if module is self._outermost:
            self._remove_hooks(keep=1)  # within this call the module inside gets the same, or part of it in a thread
        self._calls += 1
        found = self._difference(args, kwargs)
        if self.seen is None:
            trains = any(parameter.requires_grad for parameter in module.parameters())
            self.seen = Seen(trains, module.training, found, self._prepare is not None)
        elif found is None:
            self.seen = self.seen._replace(difference=None)
        if found is None or self._calls == MAX_CALLS:
            self.close()

    def _difference(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        try:
            with torch.no_grad():
                if self._given is None:
                    self._given = expected(self._inputs, self._prepare)
                return difference(self._given, (args, kwargs))
        except (RuntimeError, TypeError, ValueError):
            # Of some tensors no values can be read, as within torch.func's transforms. What is wrong with `prepare`
            # the loader's own passes say, and this is the user's.
            return None

    def _remove_hooks(self, keep: int = 0) -> None:
        while len(self._handles) > keep:
            self._handles.pop().remove()


def difference_message(seen: Seen) -> str | None:
    """Say what to do about a difference; None where there is none."""
    if seen.difference is None:
        return None
    remedy = (
        "make the function passed as prepare= do just what the loop does to a batch before the model"
        if seen.prepared
        else "move what the loop does to a batch before the model, such as a normalization or a crop, into the "
        "dataset's transform or into the model, or pass the same function as prepare="
    )
    return (
        f"in the first training step, {seen.difference}; MixNN's own passes, which tell losses, neighbors and "
        f"predictions, give the model the former, for which it is not trained: {remedy}"
    )


def _watched(model: nn.Module) -> Iterator[nn.Module]:
    """List the modules whose call may be the step's, outermost first."""
    inner: nn.Module | None = model
    while inner is not None:
        if compiled_inside(inner) is not None:
            yield inner  # and none inside, which is compiled
            return
        if getattr(inner, "_compiled_call_impl", None) is not None or isinstance(inner, torch.jit.ScriptModule):
            return
        yield inner
        inner = calls_inside(inner)


def _records_graph(tensors: list[Tensor]) -> bool:
    """Say whether a CUDA graph is being recorded, in which nothing may be read."""
    return any(tensor.is_cuda for tensor in tensors) and torch.cuda.is_current_stream_capturing()
