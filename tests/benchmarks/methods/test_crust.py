import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional
from toy_measures import memorized, share_of_noise, whole_batch
from toy_task import Toy, auroc, toy, train

from benchmarks.methods.crust import Crust, facility_location


@pytest.fixture(scope="module")
def made() -> Toy:
    return toy(epochs=8)


@pytest.fixture(scope="module")
def released(made: Toy) -> Crust:
    method = Crust(made.task, is_released=True)
    train(method)
    return method


def similarities(size: int, seed: int) -> npt.NDArray[np.float32]:
    points = np.random.default_rng(seed).standard_normal((size, 3))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    result: npt.NDArray[np.float32] = (distances.max() - distances).astype(np.float32)
    return result


@pytest.mark.parametrize("seed", range(3))
def test_lazy_greedy_is_greedy(seed: int) -> None:
    rows = similarities(40, seed)
    expected: list[int] = []
    while len(expected) < 12:
        values = [
            -1.0 if row in expected else rows[[*expected, row]].max(axis=0).astype(np.float64).sum()
            for row in range(40)
        ]
        expected.append(int(np.argmax(values)))
    assert facility_location(rows, 12) == expected
    assert sorted(facility_location(rows, 40)) == list(range(40))


def test_gradients_are_those_of_each_loss(made: Toy) -> None:
    method = Crust(made.task)
    batch = whole_batch(made)
    representations = method.learner.logits_and_representations(batch.inputs)[1].detach().requires_grad_()
    loss = functional.cross_entropy(method.learner.network.head(representations), batch.labels, reduction="sum")
    (expected,) = torch.autograd.grad(loss, representations)
    torch.testing.assert_close(method.gradients(), expected, rtol=1e-4, atol=1e-6)


def test_coreset_and_weights(made: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    method = Crust(made.task, radius=1.5)
    gradients = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(method, "gradients", lambda: gradients)
    method.begin_epoch(method.start_epoch)
    selected = method.selected.clone()
    released = Crust(made.task, is_released=True)
    monkeypatch.setattr(released, "gradients", lambda: gradients)
    released.begin_epoch(released.start_epoch)
    for label in range(4):
        members = np.flatnonzero(made.given.numpy() == label)
        points = gradients[members].double().numpy()
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        assert selected[members].sum() == len(members) // 2
        np.testing.assert_array_equal(method.weights[members], (distances < 1.5).sum(axis=1))
        middle = members[np.argsort(distances.sum(axis=1))[: len(members) // 2]]
        np.testing.assert_array_equal(released.weights[members], (distances / 128 < 2.0).sum(axis=1))
        assert set(released.selected.nonzero().squeeze(1).tolist()) & set(members.tolist()) == set(middle.tolist())
        chosen = np.flatnonzero(selected.numpy()[members])
        cost, cost_of_middle = (
            distances[rows].min(axis=0).sum() for rows in (chosen, np.searchsorted(members, np.sort(middle)))
        )
        assert cost < 0.8 * cost_of_middle  # a coreset stands for all of its class


def test_loss_is_a_weighted_mean(made: Toy) -> None:
    method = Crust(made.task)
    method.weights.copy_(torch.rand(400, generator=torch.Generator().manual_seed(1)))
    logits = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    exponentials = np.exp(logits.double().numpy())
    losses = -np.log((exponentials / exponentials.sum(axis=1, keepdims=True))[np.arange(400), made.given.numpy()])
    expected = np.average(losses, weights=method.weights.numpy())
    assert method.loss(logits, whole_batch(made)).item() == pytest.approx(expected, rel=1e-4)


def test_partners_have_the_same_given_label(made: Toy) -> None:
    method = Crust(made.task)
    torch.manual_seed(0)
    partners = method.partners(made.given.repeat(5))
    origins = (partners.unsqueeze(1) == whole_batch(made).inputs.unsqueeze(0)).all(dim=2).int().argmax(dim=1)
    torch.testing.assert_close(made.given[origins], made.given.repeat(5))
    assert len(set(origins.tolist())) > 390  # and any of them


def test_the_rim_that_facility_location_takes_is_mislabeled(made: Toy) -> None:
    method = Crust(made.task)
    train(method)
    noise = made.is_noisy.double()
    weights = method.weights.double() * method.selected
    assert noise[method.selected].mean() > noise.mean() + 0.03
    assert (noise * weights).sum() / weights.sum() > noise.mean()


def test_released_form_selects_clean_samples(made: Toy, released: Crust) -> None:
    assert share_of_noise(made, released.selected) < 0.1
    assert auroc(released, made) > 0.9
    assert memorized(released, made) < 0.15
