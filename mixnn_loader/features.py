"""Find the penultimate layer, and capture what flows into it without leaving a hook behind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

FeatureFunction = Callable[[nn.Module, Any], tuple[Tensor, Tensor]]
"""``(model, inputs) -> (logits (B, C), representations (B, ...))``."""

FeatureLayer = nn.Module | str | FeatureFunction


def find_feature_layer(
    model: nn.Module, feature_layer: FeatureLayer | None, num_classes: int | None = None
) -> nn.Module | FeatureFunction:
    """Find the layer whose input is the representation: usually the last, fully connected one.

    Args:
        model: the unwrapped model.
        feature_layer: the user's choice: one of the model's modules, its dotted name, or a function that gives
            logits and representations. None looks for it: first the model's ``get_classifier()`` (timm's
            convention) where that returns a real module, then the last `torch.nn.Linear` with ``num_classes``
            outputs.
        num_classes: the width of the model's output; only for the search.

    Returns:
        One of the model's own modules, or the user's function.

    Raises:
        TypeError: ``feature_layer`` is of no known kind.
        ValueError: the named layer is not in the model, or none was found; the message lists the candidates.
    """
    if feature_layer is None:
        return classifiers(model, num_classes)[-1]
    if isinstance(feature_layer, str):
        modules: dict[str, nn.Module] = dict(model.named_modules())
        if feature_layer not in modules:
            raise ValueError(f"feature_layer {feature_layer!r} is not in the model; {_linear_layers(model)}")
        return modules[feature_layer]
    if isinstance(feature_layer, nn.Module):
        if not any(module is feature_layer for module in model.modules()):
            raise ValueError(
                f"feature_layer {type(feature_layer).__name__} is not one of the model's modules; "
                f"{_linear_layers(model)}"
            )
        return feature_layer
    if callable(feature_layer):
        function: FeatureFunction = feature_layer
        return function
    raise TypeError(
        "feature_layer must be a module of the model, its dotted name or a function "
        f"(model, inputs) -> (logits, representations), got {type(feature_layer).__name__}"
    )


@contextmanager
def captured_inputs(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect a copy of the first input of every call of ``layer`` while the context is open.

    Raises:
        TypeError: in a call of ``layer``, if its first input is not a tensor.

    Example:
        >>> import torch
        >>> layer = nn.Linear(2, 3)
        >>> with captured_inputs(layer) as captured:
        ...     _ = layer(torch.ones(4, 2))
        >>> [tuple(tensor.shape) for tensor in captured]
        [(4, 2)]
    """
    captured: list[Tensor] = []

    def capture(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        first = args[0] if args else next(iter(kwargs.values()), None)
        if not isinstance(first, Tensor):
            raise TypeError(
                f"feature_layer {type(layer).__name__} must take a tensor, got {type(first).__name__}; pass another "
                "feature_layer=, a layer whose first argument is the representation"
            )
        captured.append(first.clone())  # the layer may work in place

    handle = layer.register_forward_pre_hook(capture, with_kwargs=True)
    try:
        yield captured
    finally:
        handle.remove()


def classifiers(model: nn.Module, num_classes: int | None) -> list[nn.Module]:
    """List the layers that may be the classifier: one, if the model names it.

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
            f"feature_layer=, the layer whose input is the representation; {_convolutions(model, num_classes)}"
            f"{_linear_layers(model)}"
        )
    return found


def name_of(model: nn.Module, layer: nn.Module) -> str:
    """Return a layer's dotted name in the model, or its type where it has none, as the model itself."""
    names = [name for name, module in model.named_modules() if module is layer]
    return repr(names[0]) if names and names[0] else type(layer).__name__


def _linear_layers(model: nn.Module) -> str:
    names = [
        f"{name!r} ({module.in_features} -> {module.out_features})"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    return f"its linear layers: {', '.join(names)}" if names else "it has no linear layer"


def _convolutions(model: nn.Module, num_classes: int | None) -> str:
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    names = [
        f"{name!r} ({type(module).__name__}, {module.in_channels} -> {module.out_channels})"
        for name, module in model.named_modules()
        if isinstance(module, convolutions) and module.out_channels == num_classes
    ]
    return f"its convolutions with {num_classes} outputs: {', '.join(names)}; " if names else ""
