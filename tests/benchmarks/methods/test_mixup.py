"""mixup: what the network is shown, the loss of it, and that less is memorized."""

import copy

import numpy as np
import pytest
import torch
from noisy_toys import long_toy, memorized_by_cross_entropy
from torch import Tensor, nn
from toy_measures import memorized, random_batch
from toy_task import toy, train

from benchmarks.harness.batches import Batch
from benchmarks.methods.mixup import Mixup


def mixed_step(method: Mixup, seed: int) -> tuple[Batch, Tensor, float, nn.Module]:
    """Take a step on rows of the unit matrix; return the batch, the mixes, the loss, and the learner before."""
    _, drawn = random_batch()
    batch = Batch(torch.eye(6, 10), drawn.labels, drawn.indices)
    before, seen, losses = copy.deepcopy(method.learner), list[Tensor](), list[float]()
    hook = method.learner.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    take = method.learner.step

    def note_and_take(loss: Tensor) -> None:
        losses.append(loss.item())
        take(loss)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method.learner, "step", note_and_take)
        torch.manual_seed(seed)
        method.step(batch)
    hook.remove()
    return batch, seen[0], losses[0], before


def test_every_sample_is_mixed_with_another_in_the_same_proportion() -> None:
    batch, mixes, loss, before = mixed_step(Mixup(toy().task), seed=3)
    own, rest = mixes.diagonal(), mixes[:, :6] - mixes[:, :6].diag().diag()
    partners = rest.argmax(dim=1)
    partners = torch.where(rest.max(dim=1).values == 0, torch.arange(6), partners)
    assert partners.sort().values.tolist() == list(range(6))
    share = own[partners != torch.arange(6)]
    assert len(share) >= 2
    assert share.std().item() < 1e-6
    torch.testing.assert_close(mixes.sum(dim=1), torch.ones(6))

    logits = before(mixes).double().detach().numpy()
    weight, labels = share[0].item(), batch.labels.numpy()
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = [
        -weight * logs[i, labels[i]] - (1 - weight) * logs[i, labels[partner]]
        for i, partner in enumerate(partners.tolist())
    ]
    assert loss == pytest.approx(np.mean(expected), rel=1e-4)


def test_larger_alpha_mixes_more_evenly() -> None:
    def unevenness(alpha: float) -> float:
        method = Mixup(toy().task, alpha=alpha)
        shares = [mixed_step(method, seed)[1].max(dim=1).values.min().item() for seed in range(20)]
        return float(np.mean(shares)) - 0.5

    assert unevenness(32.0) < unevenness(1.0) / 2


def test_memorizes_less_than_cross_entropy() -> None:
    made = long_toy()
    assert memorized(train(Mixup(made.task)), made) < memorized_by_cross_entropy(long_toy) - 0.1
