"""The user's model, asked for predictions without being changed."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from mixnn_loader._utils.checks import as_device, check_floating_type
from mixnn_loader._utils.nested import map_tensors, tensors_of
from mixnn_loader._utils.processes import Processes
from mixnn_loader.model.classifier import find_classifier
from mixnn_loader.model.device import called, check_initialized, device_of, mismatch_named
from mixnn_loader.model.hooks import FeatureFunction, FeatureLayer, captured_inputs, find_feature_layer, name_of
from mixnn_loader.model.output import checked_pair, flat_rows, wide_logits
from mixnn_loader.model.replicas import buffers_of_first, check_whole


class Predictions(NamedTuple):
    """What the model says of a batch.

    Attributes:
        logits: (B, C), float32 or wider, where the inputs are, wherever the model's last layer is.
        representations: (B, d) float32 beside them, or None where they were not asked for.
    """

    logits: Tensor
    representations: Tensor | None


class ModelView:
    """Looks at a model in eval mode, without gradient; flags, statistics and hooks are as before afterwards.

    `torch.nn.parallel.DistributedDataParallel` and `torch.compile` wrappers are seen through: the first
    broadcasts buffers at every forward, the second may ignore hooks.

    Args:
        model: the model being trained.
        feature_layer: see `mixnn_loader.model.hooks.find_feature_layer`; None: see
            `mixnn_loader.model.classifier.find_classifier`.
        device: where its inputs go; None: where its first parameter is at the time.
        autocast_dtype: run under `torch.autocast` with this type; None: as the caller's context has it.

    Raises:
        TypeError: ``model`` is no module or sharded, or ``feature_layer`` of no known kind.
        ValueError: ``feature_layer`` is not in the model, ``device`` not one of torch's, or ``autocast_dtype`` not a
            floating-point type.
    """

    def __init__(
        self,
        model: nn.Module,
        feature_layer: FeatureLayer | None = None,
        device: torch.device | str | None = None,
        autocast_dtype: torch.dtype | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        if autocast_dtype is not None:
            check_floating_type("autocast_dtype", autocast_dtype, "None or a floating-point torch.dtype")
        check_whole(model)
        self._model = unwrap(model)
        self._device = as_device("device", device)
        self._autocast_dtype = autocast_dtype
        self._takes_channels_last = True
        self._initialized = False
        # Looking for a layer takes the width of the output, which the first forward pass tells.
        self._layer: nn.Module | FeatureFunction | None = None
        if feature_layer is not None:
            self._layer = find_feature_layer(self._model, feature_layer)

    def buffers_of_first(self, processes: Processes) -> AbstractContextManager[None]:
        """Look at the model with the first process's buffers; see `mixnn_loader.model.replicas.buffers_of_first`."""
        check_whole(self._model)  # it may have been sharded since
        return buffers_of_first(self._model, processes)

    @property
    def device(self) -> torch.device:
        """Where the model takes its inputs."""
        return device_of(self._model) if self._device is None else self._device

    def predict(self, inputs: Any, *, need_representations: bool = False) -> Predictions:
        """Run the model once.

        Args:
            inputs: a batch on the model's device.
            need_representations: also return what enters the feature layer, flattened.

        Raises:
            TypeError: the model's output is not a tensor, or its ``forward`` takes something else than the inputs.
            ValueError: the output is not (B, C), the feature layer is not found or not called exactly once, the model
                is not where the inputs are or not of their type, or it has lazy modules that have not seen a batch.
        """
        if not self._initialized:
            check_whole(self._model)
            check_initialized(self._model)
            self._initialized = True
        if self.device.type == "cpu" and self._takes_channels_last and any(t.dim() == 4 for t in tensors_of(inputs)):
            # Convolutions on a CPU run about twice as fast this way. A model that cannot take it, because it calls
            # .view() on what comes out of them, says so by an error.
            with suppress(Exception):
                return self._predict(inputs, _clone_channels_last, need_representations=need_representations)
            self._takes_channels_last = False
        return self._predict(inputs, torch.clone, need_representations=need_representations)

    def _predict(self, inputs: Any, clone: Callable[[Tensor], Tensor], *, need_representations: bool) -> Predictions:
        inputs = map_tensors(clone, inputs)  # a model may work in place
        device = self.device
        with (
            torch.no_grad(),
            evaluating(self._model),
            self._autocast(),
            _without_compilation(),
            mismatch_named(self._model, inputs, device),
        ):
            logits, representations = self._run(inputs, need_representations)
            kept = flat_rows(representations, len(logits)).to(device) if need_representations else None
            return Predictions(logits.to(device), kept)

    def _run(self, inputs: Any, need_representations: bool) -> tuple[Tensor, Any]:
        """Give the logits and, where they are needed, the representations as they are."""
        if self._layer is not None and not isinstance(self._layer, nn.Module):
            logits, representations = checked_pair(self._layer(self._model, inputs))
            return wide_logits(logits, "the function passed as feature_layer="), representations
        if not need_representations:
            return wide_logits(called(self._model, inputs)), None
        if self._layer is None:
            self._layer = find_classifier(
                self._model, lambda: wide_logits(called(self._model, map_tensors(torch.clone, inputs)))
            )
        layer = self._layer
        with captured_inputs(layer) as captured:
            logits = wide_logits(called(self._model, inputs))
        if len(captured) != 1:
            raise ValueError(
                f"the feature layer {name_of(self._model, layer)} must be called once in a forward pass, it was called "
                f"{len(captured)} times; pass another feature_layer="
            )
        return logits, captured[0]

    def _autocast(self) -> AbstractContextManager[object]:
        kind = self.device.type
        if not torch.amp.is_autocast_available(kind):
            return nullcontext()
        # Without a cache of its own, a weight cast here without gradient could be what the caller's forward pass
        # under the same autocast gets, and would never be trained.
        if self._autocast_dtype is None:
            dtype, enabled = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        else:
            dtype, enabled = self._autocast_dtype, True
        return torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside any wrappers.

    These are `DistributedDataParallel`, `DataParallel`, `torch.compile` and `torch.optim.swa_utils.AveragedModel`, of
    which the inner module is the average. Others are left as they are: what they do in their ``forward`` may matter.
    """
    while True:
        if isinstance(model, (DistributedDataParallel, nn.DataParallel, AveragedModel)):
            model = cast(nn.Module, model.module)
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, and every module's ``training`` flag back on leaving.

    The flags are set one by one: ``model.train()`` would wake up a BatchNorm that the user froze, and may be
    overridden to do more than set flags.
    """
    trained = [module for module in model.modules() if module.training]
    for module in trained:
        module.training = False
    try:
        yield
    finally:
        for module in trained:
            module.training = True


def _clone_channels_last(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.channels_last if tensor.dim() == 4 else torch.preserve_format)


def _without_compilation() -> AbstractContextManager[object]:
    """Run compiled modules, too, as they were written: compiled code may ignore hooks."""
    # Importing the compiler takes seconds. Where nobody has, there is nothing compiled.
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance
