"""Mixing in layers, tried on one batch: whether the model takes it so, and whether all goes by the layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mixnn_loader.model.mix_layer import MixLayers, RowMix, check_output


class _Tried:
    """A hook that mixes whatever the layer gives.

    Attributes:
        name: of the layer.
        is_called: whether it was.
        problem: what is wrong with what it gave.
    """

    def __init__(self, name: str, mix: RowMix) -> None:
        self.name, self.is_called = name, False
        self.problem: TypeError | ValueError | None = None
        self._mix = mix

    def __call__(self, layer: nn.Module, args: Any, output: Any) -> Any:
        del layer, args
        self.is_called = True
        try:
            check_output(output, self.name, self._mix.num_rows)
        except (TypeError, ValueError) as error:
            self.problem = error
            raise
        return self._mix.function(output)


@contextmanager
def mixing(layers: MixLayers, model: nn.Module, mix: RowMix) -> Iterator[None]:
    """Mix, within the context, whatever the layers give.

    Args:
        layers: which.
        model: of which they are.
        mix: how.

    Raises:
        TypeError, ValueError: a layer gives something that cannot be mixed, or one was not called.
        RuntimeError: the model has failed, which would not have failed without.
    """
    hooks = [_Tried(name, mix) for name in layers.modules]
    handles = [layer.register_forward_hook(hook) for layer, hook in zip(layers.modules.values(), hooks, strict=True)]
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        for hook in hooks:
            if hook.problem is not None:
                raise hook.problem from None
        raise RuntimeError(_not_taken(layers, model, error)) from error
    finally:
        while handles:
            handles.pop().remove()
    if missed := [hook.name for hook in hooks if not hook.is_called]:
        raise ValueError(
            f"mix_layer {', '.join(missed)} is not called in the model's forward pass: name the modules that are, of a "
            "ModuleList or ModuleDict its members"
        )


def unmixed_message(layers: MixLayers, model: nn.Module) -> str:
    """Say that the inputs reach the output past the layers, and which embeddings may be how."""
    return (
        f"mix_layer {', '.join(layers.modules)} is not all that the inputs go by: with a neighbor in place of every "
        "sample there, the model's output is not the neighbor's. What else takes them stays the sample's own. Another "
        f"embedding{_embeddings_besides(layers, model)} of samples has to be named, too, mix_layer=[...]; a mask that "
        "the model makes of them is to be given with the inputs, with its rule, mix={..., 'mask': 'or'}; for a head "
        "that looks for the last token, pad on the left. A mask that is used before the layer cannot be mixed: where "
        "you know of one, the training goes on well without"
    )


def _not_taken(layers: MixLayers, model: nn.Module, error: Exception) -> str:
    return (
        f"the model cannot be called with a batch that is mixed in mix_layer {', '.join(layers.modules)} ({error}). Up "
        "to the layer such a batch has a row for each sample and each neighbor that was loaded; after it, and in masks "
        "and lengths, one for each sample. Name all that takes the inputs, such as another embedding"
        f"{_embeddings_besides(layers, model)} of samples, or the module by which all goes that depends on them; give "
        "masks with the inputs; or take neighbors in the batch, for which no rows are added, neighbors='random-batch'"
    )


def _embeddings_besides(layers: MixLayers, model: nn.Module) -> str:
    inside = {module for layer in layers.modules.values() for module in layer.modules()}
    names = [
        repr(name)
        for name, module in model.named_modules()
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module not in inside
    ]
    return f" ({', '.join(names)})" if names else ""
