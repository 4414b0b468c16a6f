"""Mixing in layers, tried on the first batch: it would otherwise fail, or leave something unmixed, after warm-up."""

from functools import partial

import torch

from mixnn_loader._utils.warn import warn_user
from mixnn_loader.data.to_device import ReceivedBatch
from mixnn_loader.method.input_rules import InputRules
from mixnn_loader.model.mix_layer import MixLayers, RowMix
from mixnn_loader.model.mix_rehearsal import mixing, unmixed_message
from mixnn_loader.model.predictor import ModelView
from mixnn_loader.run.pairing import Pairing

TOLERANCE = 0.05
"""How far the outputs for the same inputs may be apart, as a part of the largest: they may be in half precision."""


def rehearse_mixing(
    view: ModelView, layers: MixLayers, rules: InputRules, received: ReceivedBatch, pairing: Pairing
) -> None:
    """Mix every sample of a batch with its first neighbor alone: the model's output must be the neighbor's.

    Args:
        view: the model.
        layers: whose output is mixed.
        rules: how inputs are mixed.
        received: the batch, with its neighbors if they are not in it.
        pairing: who is whose neighbor in it, one at least for each sample.

    Warns:
        UserWarning: inputs reach the output past the layers.

    Raises:
        TypeError, ValueError: a layer gives something that cannot be mixed, or one was not called.
        RuntimeError: the model does not take such a batch.
    """
    expected = pairing.neighbors(view.predict(received.inputs).logits)[:, 0]
    weights = torch.zeros(
        len(pairing.found), pairing.found.shape[1] + 1, dtype=torch.float32, device=pairing.found.device
    )
    weights[:, 1] = 1
    mix = RowMix(received.groups.numel(), partial(pairing.mixed, weights=weights))
    with mixing(layers, view.model, mix):
        answer = view.predict(rules.of_neighbors(received.inputs, pairing.neighbors)).logits
    if answer.isfinite().all() and ((answer - expected).abs().max() > TOLERANCE * expected.abs().max()):
        warn_user(unmixed_message(layers, view.model))
