"""Mixing in layers, tried on the first batch: it would otherwise fail, or leave something unmixed, after warm-up."""

from functools import partial

import torch
from torch import Tensor

from mixnn_loader._utils.nested import map_tensors
from mixnn_loader._utils.warn import warn_user
from mixnn_loader.data.to_device import ReceivedBatch
from mixnn_loader.method.input_rules import InputRules
from mixnn_loader.model.mix_layer import MixLayers, RowMix
from mixnn_loader.model.mix_rehearsal import mixing, unmixed_message
from mixnn_loader.model.predictor import ModelView
from mixnn_loader.run.pairing import Pairing

TOLERANCES = {"half": 5e-2, "accelerator": 1e-2, "exact": 1e-3}
"""How far outputs for the same inputs may be apart, as a part of what tells samples apart: rounding, at most."""


def rehearse_mixing(
    view: ModelView, layers: MixLayers, rules: InputRules, received: ReceivedBatch, pairing: Pairing
) -> None:
    """Mix every sample of a batch with its first neighbor alone: the model's output must be the neighbor's.

    Args:
        view: the model.
        layers: whose output is mixed.
        rules: how inputs are mixed.
        received: the batch, with its neighbors if they are not in it.
        pairing: who is whose neighbor in it.

    Warns:
        UserWarning: inputs reach the output past the layers.

    Raises:
        TypeError, ValueError: a layer gives something that cannot be mixed, or one was not called.
        RuntimeError: the model does not take such a batch.
    """
    # As many rows as in every pass, and in the same order: what the model draws at random is the same in both.
    expected = view.predict(map_tensors(lambda rows: pairing.neighbors(rows)[:, 0], received.inputs)).logits
    weights = torch.zeros(
        len(pairing.found), pairing.found.shape[1] + 1, dtype=torch.float32, device=pairing.found.device
    )
    weights[:, 1] = 1
    mix = RowMix(received.groups.numel(), partial(pairing.mixed, weights=weights))
    with mixing(layers, view.model, mix):
        answer = view.predict(rules.of_neighbors(received.inputs, pairing.neighbors)).logits
    if answer.shape != expected.shape or _differ(answer, expected, view):
        warn_user(unmixed_message(layers, view.model))


def _differ(answer: Tensor, expected: Tensor, view: ModelView) -> bool:
    finite = answer.isfinite() & expected.isfinite()
    answer, expected = answer.where(finite, 0), expected.where(finite, 0)
    precision = "half" if view.is_half else "exact" if view.device.type == "cpu" else "accelerator"
    spread = (expected - expected.mean(dim=0)).abs().max()
    return bool((answer - expected).abs().max() > TOLERANCES[precision] * spread)
