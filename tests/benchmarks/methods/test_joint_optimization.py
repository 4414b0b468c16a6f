"""Joint Optimization: its loss, when labels are replaced and by what, and what comes of it."""

import numpy as np
import pytest
import torch
from torch import Tensor
from toy_measures import assert_goes_on, plain_accuracy
from toy_task import Toy, accuracy, auroc, toy, train

from benchmarks.methods.joint_optimization import JointOptimization, joint_loss


@pytest.fixture(scope="module")
def made() -> Toy:
    return toy(rate=0.4, epochs=20)


@pytest.fixture(scope="module")
def trained(made: Toy) -> JointOptimization:
    method = JointOptimization(made.task)
    train(method)
    return method


def test_the_loss_is_the_papers() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(6, 4)), rng.dirichlet(np.ones(4), size=6)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classification = np.mean(
        [-sum(t * np.log(q) for t, q in zip(*row, strict=True)) for row in zip(targets, p, strict=True)]
    )
    prior = -sum(0.25 * np.log(mean) for mean in p.mean(axis=0))
    entropy = -np.mean((p * np.log(p)).sum(axis=1))
    found = joint_loss(torch.from_numpy(logits), torch.from_numpy(targets), 1.2, 0.8)
    assert found.item() == pytest.approx(classification + 1.2 * prior + 0.8 * entropy)


def test_labels_are_replaced_by_what_the_last_epochs_predicted() -> None:
    made = toy(epochs=20)
    method = JointOptimization(made.task, begin=50, window=30)  # of 200: after the 5th epoch, over 3
    outputs: list[Tensor] = []
    method.first.register_forward_hook(lambda *passed: outputs.append(passed[2].detach()))
    seen = np.zeros((6, len(made.given), 4))
    for epoch in range(6):
        made.task.begin_epoch(epoch)
        method.begin_epoch(epoch)
        for batch in method.batches():
            method.step(batch)
            seen[epoch, batch.indices.numpy()] = outputs[-1].softmax(dim=1).numpy()
        method.end_epoch(epoch)
        expected = seen[epoch - 2 : epoch + 1].mean(axis=0) if epoch >= 4 else np.eye(4)[made.given.numpy()]
        np.testing.assert_allclose(method.soft_labels.numpy(), expected, atol=1e-6)


def test_step_1_is_at_a_constant_rate_and_step_2_starts_from_new_weights(trained: JointOptimization) -> None:
    made = toy(epochs=6)
    method = JointOptimization(made.task)
    initial = {name: value.clone() for name, value in made.task.network().state_dict().items()}
    train(method, epochs=6)
    assert method.first.optimizer.param_groups[0]["lr"] == 0.08
    torch.testing.assert_close(dict(method.second.network.state_dict()), initial, rtol=0, atol=0)
    assert accuracy(method, made) > 0.8  # the network of step 1; the other one knows nothing yet
    assert trained.num_epochs == 40
    assert trained.second.optimizer.param_groups[0]["lr"] < 0.01


def test_finds_and_mends_wrong_labels(made: Toy, trained: JointOptimization) -> None:
    assert auroc(trained, made) > 0.95
    assert (trained.corrected_labels() == made.true).float().mean() > 0.9
    assert accuracy(trained, made) > 0.9
    assert accuracy(trained, made) > plain_accuracy(0.4, 20) + 0.1


def test_goes_on_in_the_middle_of_step_2() -> None:
    assert_goes_on(lambda: JointOptimization(toy(epochs=4, num_samples=80).task), stop=6)
