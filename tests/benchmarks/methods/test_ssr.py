"""SSR."""

import numpy as np
import pytest
import torch
from noisy_toys import assert_memorizes_less, trained
from toy_task import Toy, auroc, toy

from benchmarks.harness.batches import Batch
from benchmarks.harness.protocol import Method
from benchmarks.methods import ssr
from benchmarks.methods.ssr import SSR, neighbor_votes, relabel, ssr_plus


@pytest.fixture(scope="module")
def run() -> tuple[Toy, Method]:
    return trained(SSR)


@pytest.mark.parametrize("rows_at_once", [7, 1000])
def test_votes(rows_at_once: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssr, "ROWS_AT_ONCE", rows_at_once)
    features = torch.randn(30, 5, generator=generator)
    labels = torch.tensor([0] * 20 + [1] * 8 + [3] * 2)
    directions = features.numpy() / np.linalg.norm(features.numpy(), axis=1, keepdims=True)
    expected = np.zeros((30, 4))
    for row in range(30):
        for neighbor in np.argsort(-directions @ directions[row])[:6]:
            expected[row, labels[neighbor]] += 1 / 6
    expected[:, [0, 1, 3]] /= np.array([20, 8, 2]) / 30
    expected /= expected.sum(axis=1, keepdims=True)
    found = neighbor_votes(features, labels, num_classes=4, num_neighbors=6)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_a_correction_is_undone_when_confidence_falls() -> None:
    given = torch.tensor([2, 2, 0])
    sure = torch.tensor([[0.95, 0.03, 0.02], [0.85, 0.1, 0.05], [0.95, 0.03, 0.02]])
    assert relabel(sure, given, 0.9).tolist() == [0, 2, 0]
    assert relabel(sure - 0.1, given, 0.9).tolist() == [2, 2, 0]


def test_published_hyper_parameters() -> None:
    made = toy(rate=0.5, num_samples=2000)
    few = SSR(made.task)
    made.task.num_classes = 20
    many = SSR(made.task)
    assert (few.relabel_threshold, few.selection_threshold, few.num_neighbors) == (0.9, 1, 200)
    assert (many.relabel_threshold, many.num_neighbors) == (0.8, 50)


def test_selects_by_votes_for_new_labels_and_scores_given_ones() -> None:
    made = toy(num_samples=800)
    method = SSR(made.task, relabel_threshold=0.3)
    method.begin_epoch(0)
    scan = made.task.scan(method.learner)
    assert not torch.equal(method.relabeled, made.given)
    torch.testing.assert_close(method.relabeled, relabel(scan.logits.softmax(dim=1), made.given, 0.3))
    votes = neighbor_votes(scan.representations, method.relabeled, 4, 100).numpy()
    rows = np.arange(800)
    np.testing.assert_allclose(method.score.numpy(), votes[rows, made.given.numpy()] / votes.max(axis=1), rtol=1e-5)
    wins = votes[rows, method.relabeled.numpy()] >= votes.max(axis=1)
    np.testing.assert_array_equal(method.is_selected.numpy(), wins)


def test_selected_samples_come_with_each_class_as_often() -> None:
    made = toy(num_samples=440)
    method = SSR(made.task)
    method.is_selected.copy_((made.given != 0) | (torch.arange(440) % 3 == 0))
    batches = list(method.batches())
    assert len(batches) == 11
    labeled = torch.cat([batch.labeled.indices for batch in batches])
    assert method.is_selected[labeled].all()
    shares = made.given[labeled].bincount() / len(labeled)
    torch.testing.assert_close(shares, torch.full((4,), 0.25), rtol=0, atol=0.03)
    assert all(batch.every is None for batch in batches)
    assert all(batch.every is not None for batch in ssr_plus(made.task).batches())


def test_trains_on_new_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    made = toy()
    method = SSR(made.task)
    method.relabeled.copy_((made.given + 1) % 4)
    seen = list[torch.Tensor]()

    def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(targets)
        return logits.sum()

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", cross_entropy)
    batch = next(iter(method.batches()))
    method.step(batch)
    wanted = torch.eye(4)[(batch.labeled.labels + 1) % 4].repeat(2, 1)
    assert len(seen[0]) == 80
    assert (seen[0] * wanted).sum(dim=1).min() >= 0.5  # the larger share of every mix


def test_feature_loss(generator: torch.Generator) -> None:
    method = ssr_plus(toy().task)
    views = [torch.randn(8, 10, generator=generator).requires_grad_() for _ in range(2)]
    batch = Batch(views[0], torch.zeros(8, dtype=torch.int64), torch.arange(8), (views[1],))
    first, second = (method.projector(method.learner.network.represent(view)) for view in views)
    wanted, found = first.detach().numpy(), method.predictor(second).detach().numpy()
    lengths = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
    loss = method.feature_loss(batch)
    assert loss.item() == pytest.approx(-((wanted * found).sum(axis=1) / lengths).mean(), rel=1e-4)
    gradients: list[torch.Tensor | None] = list(torch.autograd.grad(loss, views, allow_unused=True))
    assert [gradient is None for gradient in gradients] == [True, False]


@pytest.mark.parametrize("is_plus", [False, True])
def test_heads_are_trained_where_they_are_used(is_plus: bool) -> None:
    made = toy()
    method = ssr_plus(made.task) if is_plus else SSR(made.task)
    for head in (method.projector, method.predictor):
        weights = next(head.parameters())
        before = weights.clone()
        method.step(next(iter(method.batches())))
        assert torch.equal(weights, before) != is_plus


def test_selected_labels_are_right(run: tuple[Toy, Method]) -> None:
    made, method = run
    assert isinstance(method, SSR)
    assert auroc(method, made) > 0.9
    corrected = method.corrected_labels()
    right = (corrected == made.true).double()
    assert right[method.is_selected].mean() > 0.85
    assert right.mean() > (made.given == made.true).double().mean()


def test_memorizes_less_than_plain_training(run: tuple[Toy, Method]) -> None:
    made, method = run
    assert_memorizes_less(method, made)
