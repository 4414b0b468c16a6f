import numpy as np
import pytest
import torch
from toy_measures import share_of_noise, whole_batch
from toy_task import Toy, auroc, toy, train

from benchmarks.methods.o2u_net import O2UNet


@pytest.fixture(scope="module")
def made() -> Toy:
    return toy(epochs=6)


def test_adds_up_losses_less_their_means(made: Toy) -> None:
    method = O2UNet(made.task)
    batch, generator = whole_batch(made), torch.Generator().manual_seed(0)
    expected = np.zeros(400)
    for epoch in range(5, 12):
        method.begin_epoch(epoch)
        logits = torch.randn(400, 4, generator=generator)
        returned = method.loss(logits, batch)
        exponentials = np.exp(logits.double().numpy())
        losses = -np.log((exponentials / exponentials.sum(axis=1, keepdims=True))[np.arange(400), made.given.numpy()])
        assert returned.item() == pytest.approx(losses.mean(), rel=1e-5)
        if epoch >= 6:  # the second training
            expected += losses - losses.mean()
        method.learner.optimizer.step()
        method.end_epoch(epoch)
    np.testing.assert_allclose(method.accumulated, expected, atol=1e-4)
    assert set(method.kept.tolist()) == set(np.argsort(expected)[:240].tolist())


def test_learning_rate_is_cyclic_in_the_second_training() -> None:
    method = O2UNet(toy(epochs=12).task)
    rates = []
    for epoch in range(12, 24):
        method.begin_epoch(epoch)
        rates.append(method.learner.optimizer.param_groups[0]["lr"])
        assert next(iter(method.batches())).labels.shape == (16,)
    cycle = np.linspace(0.0091, 0.001, 10)
    np.testing.assert_allclose(rates, [*cycle, *cycle[:2]])


def test_drops_wrong_labels_and_trains_again_from_the_first_weights(made: Toy) -> None:
    method = O2UNet(made.task)
    train(method, epochs=6)
    assert method.clean_score() is None
    weights = method.learner.network.head.weight.detach().clone()
    train(method, first=6, epochs=12)
    assert (method.learner.network.head.weight - weights).abs().max() > 1e-3
    assert auroc(method, made) > 0.8
    method.begin_epoch(12)
    torch.testing.assert_close(method.learner.network.head.weight.detach(), weights, rtol=0, atol=0)
    seen = torch.cat([batch.indices for batch in method.batches()])
    assert len(seen) == 240
    assert share_of_noise(made, seen) < share_of_noise(made, torch.arange(400)) - 0.15
