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
        return _classifier(model, num_classes)
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
        first = args[0] if args else next(iter(kwargs.values()))
        captured.append(first.clone())  # the layer may work in place

    handle = layer.register_forward_pre_hook(capture, with_kwargs=True)
    try:
        yield captured
    finally:
        handle.remove()


def _classifier(model: nn.Module, num_classes: int | None) -> nn.Module:
    get_classifier = getattr(model, "get_classifier", None)
    if callable(get_classifier):
        classifier = get_classifier()
        if isinstance(classifier, nn.Module) and not isinstance(classifier, (nn.Identity, nn.ModuleList)):
            return classifier
    fitting = [
        module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == num_classes
    ]
    if not fitting:
        raise ValueError(
            f"no torch.nn.Linear with {num_classes} outputs was found in {type(model).__name__}; pass "
            f"feature_layer=, the layer whose input is the representation; {_linear_layers(model)}"
        )
    return fitting[-1]


def _linear_layers(model: nn.Module) -> str:
    names = [
        f"{name!r} ({module.in_features} -> {module.out_features})"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    return f"its linear layers: {', '.join(names)}" if names else "it has no linear layer"
