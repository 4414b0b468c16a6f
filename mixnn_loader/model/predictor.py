"""The user's model, asked for predictions without being changed."""

from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mixnn_loader._utils.checks import as_device, check_floating_type
from mixnn_loader._utils.nested import map_tensors
from mixnn_loader._utils.processes import Processes
from mixnn_loader._utils.random_state import kept_random_state
from mixnn_loader.model.buffers import WrittenBuffers
from mixnn_loader.model.classifier import find_classifier
from mixnn_loader.model.device import called, check_initialized, device_of, devices_of, mismatch_named
from mixnn_loader.model.hooks import FeatureFunction, FeatureLayer, captured_inputs, find_feature_layer, name_of
from mixnn_loader.model.memory_format import cloned, has_images, is_about_layout
from mixnn_loader.model.modes import autocast, evaluating, without_compilation
from mixnn_loader.model.output import checked_pair, flat_rows, wide_logits
from mixnn_loader.model.prepare import Prepare, check_prepare, prepared
from mixnn_loader.model.replicas import buffers_of_first, check_whole
from mixnn_loader.model.wrappers import unwrap


class Predictions(NamedTuple):
    """What the model says of a batch.

    Attributes:
        logits: (B, C), float32 or wider, where the inputs are, wherever the model's last layer is.
        representations: (B, d) float32 beside them, or None where they were not asked for.
    """

    logits: Tensor
    representations: Tensor | None


class ModelView:
    """Looks at a model in eval mode, without gradient.

    Its flags, buffers and hooks, and the global random streams, are as before afterwards.

    `torch.nn.parallel.DistributedDataParallel` and `torch.compile` wrappers are seen through: the first
    broadcasts buffers at every forward, the second may ignore hooks.

    Args:
        model: the model being trained.
        feature_layer: see `mixnn_loader.model.hooks.find_feature_layer`; None: see
            `mixnn_loader.model.classifier.find_classifier`.
        device: where its inputs go; None: where its first parameter is at the time.
        autocast_dtype: run under `torch.autocast` with this type; None: as the caller's context has it.
        prepare: what the training loop does to a batch on the device before the model gets it, ``inputs -> inputs``;
            done before each pass, without gradient. None: nothing.

    Raises:
        TypeError: ``model`` is no module or sharded, ``feature_layer`` of no known kind, or ``prepare`` not callable.
        ValueError: ``feature_layer`` is not in the model, ``device`` not one of torch's, or ``autocast_dtype`` not a
            floating-point type.
    """

    def __init__(
        self,
        model: nn.Module,
        feature_layer: FeatureLayer | None = None,
        device: torch.device | str | None = None,
        autocast_dtype: torch.dtype | None = None,
        *,
        prepare: Prepare | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        if autocast_dtype is not None:
            check_floating_type("autocast_dtype", autocast_dtype, "None or a floating-point torch.dtype")
        check_prepare(prepare)
        check_whole(model)
        self._model = unwrap(model)
        self._prepare = prepare
        self._buffers = WrittenBuffers(self._model)
        self._generators: set[torch.device] | None = None
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

    @property
    def is_half(self) -> bool:
        """Whether it computes in half precision, at least in part."""
        types = {self._autocast_dtype, *(parameter.dtype for parameter in self._model.parameters())}
        return any(dtype is not None and dtype.is_floating_point and dtype.itemsize < 4 for dtype in types)

    @property
    def model(self) -> nn.Module:
        """The module inside any wrappers."""
        return self._model

    def recheck(self) -> None:
        """Look afresh, in the next pass, at which buffers the model writes and where its parameters are.

        That pass waits for the device.
        """
        self._buffers.recheck()
        self._generators = None

    def predict(self, inputs: Any, *, need_representations: bool = False) -> Predictions:
        """Run the model once.

        Args:
            inputs: a batch on the model's device.
            need_representations: also return what enters the feature layer, flattened.

        Warns:
            RuntimeWarning: see `mixnn_loader.model.buffers.WrittenBuffers.kept`.

        Raises:
            TypeError: the model's output is not a tensor, its ``forward`` takes something else than the inputs, or
                ``prepare`` returned something else.
            ValueError: the output is not (B, C), the feature layer is not found or not called exactly once, the model
                is not where the inputs are or not of their type, it has lazy modules that have not seen a batch, or
                ``prepare`` returned other rows.
        """
        if not self._initialized:
            check_whole(self._model)
            check_initialized(self._model)
            self._initialized = True
        if self._generators is None:
            self._generators = devices_of(self._model)
        with torch.no_grad(), kept_random_state({self.device, *self._generators}):
            if self._prepare is not None:
                inputs = prepared(self._prepare, cloned(inputs, channels_last=False))
            if self.device.type == "cpu" and self._takes_channels_last and has_images(inputs):
                try:
                    return self._predict(inputs, need_representations=need_representations, channels_last=True)
                except (RuntimeError, ValueError, AssertionError) as error:
                    if not is_about_layout(error):
                        raise
                self._takes_channels_last = False
            return self._predict(inputs, need_representations=need_representations, channels_last=False)

    def _predict(self, inputs: Any, *, need_representations: bool, channels_last: bool) -> Predictions:
        inputs = cloned(inputs, channels_last=channels_last)  # a model may work in place
        device = self.device
        with (
            evaluating(self._model),
            self._buffers.kept(),
            autocast(device, self._autocast_dtype),
            without_compilation(),
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
                f"{len(captured)} times; pass another feature_layer=, which may be a function (model, inputs) -> "
                "(logits, representations). Of a layer that has been replaced, call loader.reset(model)"
            )
        return logits, captured[0]
