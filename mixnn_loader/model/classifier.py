"""The classifier, whose input is the representation: named by the model, or the last linear layer of its width."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mixnn_loader._utils.warn import warn_user
from mixnn_loader.model.hooks import linear_layers, name_of


def find_classifier(model: nn.Module, forward: Callable[[], Tensor]) -> nn.Module:
    """Find the layer that makes the logits.

    Heads that only training uses are not called in eval mode. Of the candidates that are, the last is taken, which is
    without doubt where its output is the logits: hidden layers may be as wide.

    Args:
        model: the unwrapped model.
        forward: runs it once and returns the logits (B, C).

    Warns:
        UserWarning: there are several, and the logits are not the output of the last.

    Raises:
        ValueError: there is none.
    """
    candidates = classifiers(model, forward().shape[1])
    if len(candidates) == 1:
        return candidates[0]
    with _last_outputs(candidates) as outputs:
        logits = forward()
    called = [layer for layer in candidates if layer in outputs]
    if len(called) > 1 and not _equal(outputs[called[-1]], logits):
        *others, last = [name_of(model, layer) for layer in called]
        warn_user(
            f"feature_layer is None, and {len(called)} linear layers with {logits.shape[1]} outputs take part in the "
            f"forward pass: what enters the last, {last}, is taken for the representation; for another choice pass "
            f"feature_layer={others[-1]}, for this one feature_layer={last}"
        )
    return called[-1] if called else candidates[-1]


def classifiers(model: nn.Module, num_classes: int) -> list[nn.Module]:
    """List the layers that may be the classifier: all `torch.nn.Linear` as wide as the output.

    If the model has timm's ``get_classifier()``, and it returns one real module, that alone.

    Args:
        model: the unwrapped model.
        num_classes: the width of its output.

    Raises:
        ValueError: there is none; the message lists the layers that could be passed as ``feature_layer``.
    """
    get_classifier = getattr(model, "get_classifier", None)
    if callable(get_classifier):
        classifier = get_classifier()
        if isinstance(classifier, nn.Module) and not isinstance(classifier, (nn.Identity, nn.ModuleList)):
            return [classifier]
    found: list[nn.Module] = [
        module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == num_classes
    ]
    if not found:
        raise ValueError(
            f"no torch.nn.Linear with {num_classes} outputs was found in {type(model).__name__}; pass "
            "feature_layer=, the layer whose input is the representation, or a function (model, inputs) -> (logits, "
            f"representations); {_convolutions(model, num_classes)}"
            f"{linear_layers(model)}"
        )
    return found


@contextmanager
def _last_outputs(layers: list[nn.Module]) -> Iterator[dict[nn.Module, Any]]:
    """Collect what each layer returns when it is called last; layers that are not called are left out."""
    outputs: dict[nn.Module, Any] = {}

    def keep(layer: nn.Module, _: Any, output: Any) -> None:
        outputs[layer] = output

    with ExitStack() as hooks:
        for layer in layers:
            hooks.callback(layer.register_forward_hook(keep).remove)
        yield outputs


def _equal(output: Tensor, logits: Tensor) -> bool:
    if output.shape != logits.shape:
        return False
    return bool(torch.isclose(output.to(logits), logits, rtol=0, atol=0, equal_nan=True).all())


def _convolutions(model: nn.Module, num_classes: int) -> str:
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    names = [
        f"{name!r} ({type(module).__name__}, {module.in_channels} -> {module.out_channels})"
        for name, module in model.named_modules()
        if isinstance(module, convolutions) and module.out_channels == num_classes
    ]
    return f"its convolutions with {num_classes} outputs: {', '.join(names)}; " if names else ""
