"""The layer whose input is the representation, and what flows into it, captured without leaving a hook behind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

FeatureFunction = Callable[[nn.Module, Any], tuple[Tensor, Tensor]]
"""``(model, inputs) -> (logits (B, C), representations (B, ...))``."""

FeatureLayer = nn.Module | str | FeatureFunction


def find_feature_layer(model: nn.Module, feature_layer: FeatureLayer) -> nn.Module | FeatureFunction:
    """Find the layer whose input is the representation, as the user says; without, see `mixnn_loader.model.classifier`.

    Args:
        model: the unwrapped model.
        feature_layer: one of the model's modules, its dotted name, or a function that gives logits and
            representations.

    Returns:
        One of the model's own modules, or the user's function.

    Raises:
        TypeError: ``feature_layer`` is of no known kind.
        ValueError: the layer is not in the model; the message lists the linear ones.
    """
    if isinstance(feature_layer, str):
        modules: dict[str, nn.Module] = dict(model.named_modules())
        if feature_layer not in modules:
            raise ValueError(f"feature_layer {feature_layer!r} is not in the model; {linear_layers(model)}")
        return modules[feature_layer]
    if isinstance(feature_layer, nn.Module):
        if not any(module is feature_layer for module in model.modules()):
            raise ValueError(
                f"feature_layer {type(feature_layer).__name__} is not one of the model's modules; "
                f"{linear_layers(model)}"
            )
        return feature_layer
    if callable(feature_layer):
        function: FeatureFunction = feature_layer
        return function
    raise TypeError(
        "feature_layer must be a module of the model, its dotted name or a function "
        f"(model, inputs) -> (logits, representations), got {type(feature_layer).__name__}"
    )


class Hook:
    """Calls a function; in a copy of the model, as one makes for an average of its weights, it does nothing."""

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return None if self._function is None else self._function(*args)

    def __reduce__(self) -> tuple[type["Hook"], tuple[()]]:
        return Hook, ()


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


def name_of(model: nn.Module, layer: nn.Module) -> str:
    """Return a layer's dotted name in the model, or its type where it has none, as the model itself."""
    names = [name for name, module in model.named_modules() if module is layer]
    return repr(names[0]) if names and names[0] else type(layer).__name__


def linear_layers(model: nn.Module) -> str:
    """List a model's linear layers, for a message."""
    names = [
        f"{name!r} ({module.in_features} -> {module.out_features})"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    return f"its linear layers: {', '.join(names)}" if names else "it has no linear layer"
