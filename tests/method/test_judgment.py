"""What is made of votes, predictions and the history of a training: against NumPy, and by its laws."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from judgment_reference import judgment
from torch import Tensor

from mixnn_loader.method.judgment import judge, with_doubt, with_error, with_total


def evidence(seed: int, sure: float = 4.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Votes, labels of which a fifth is wrong, predictions as sure as told, and a history, of 300 samples."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(3, (300,), generator=generator)
    flips = torch.rand(300, generator=generator) < 0.2
    labels = torch.where(flips, (true + 1) % 3, true)
    one_hot = torch.nn.functional.one_hot(true, 3).float()
    shares = (2 * one_hot + torch.randn(300, 3, generator=generator)).softmax(dim=1)
    predictions = (sure * one_hot + torch.randn(300, 3, generator=generator)).softmax(dim=1)
    return shares, labels, predictions, torch.rand(300, generator=generator)


@pytest.mark.parametrize("against", [0, 1], ids=["in accord", "model against neighbors"])
@pytest.mark.parametrize("sure", [0.0, 1.0, 4.0, 12.0])
@pytest.mark.parametrize("seed", range(3))
def test_against_numpy(seed: int, sure: float, against: int) -> None:
    shares, labels, predictions, history = evidence(seed, sure)
    predictions = predictions.roll(against, dims=1)
    history[:5] = torch.nan
    found = judge(shares, labels, predictions, history)
    probabilities, readings = judgment(*(part.double().numpy() for part in (shares, labels, predictions, history)))
    np.testing.assert_allclose(found.probabilities, probabilities, atol=2e-4)
    np.testing.assert_allclose(found.readings, readings, atol=1e-4)


def of_given(probabilities: Tensor, labels: Tensor) -> Tensor:
    return probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)


def test_no_more_wrong_labels_are_expected_than_the_neighbors_expect() -> None:
    shares, labels, predictions, _ = evidence(0, 12.0)
    against = torch.roll(predictions, 1, dims=1)  # sure, and wrong of everyone
    found = judge(shares, labels, against, torch.zeros(300))
    assert found.readings[:, 2].mean() < 0.3
    wrong, by_neighbors = (
        float(300 - right.sum()) for right in (of_given(found.probabilities, labels), found.readings[:, 1])
    )
    assert wrong == pytest.approx(with_error(by_neighbors, 300), abs=0.1)
    share = by_neighbors / 300
    assert wrong == pytest.approx(by_neighbors + 300 * (share * (1 - share) / 75) ** 0.5, abs=0.1)


def test_labels_that_the_model_has_gone_for_are_doubted_less_and_the_others_more() -> None:
    shares, labels, predictions, nothing = (*evidence(1)[:3], torch.zeros(300))
    history = nothing.clone()
    history[:150] = 0.5
    never, some = (
        of_given(judge(shares, labels, predictions, said).probabilities, labels) for said in (nothing, history)
    )
    doubted = never < 0.5
    assert (some > never)[:150][doubted[:150]].all()
    assert (some < never)[150:][doubted[150:]].all()
    assert some[:150].sum() > never[:150].sum() + 1
    assert float(some.sum()) == pytest.approx(float(never.sum()), abs=0.01)


def test_who_was_never_asked_is_doubted_as_others_are() -> None:
    shares, labels, predictions, _ = evidence(2)
    history = torch.full((300,), 0.4)
    history[::2] = torch.nan
    found, without = (
        judge(shares, labels, predictions, said).probabilities for said in (history, torch.full((300,), torch.nan))
    )
    # All are alike, so that the order is what it was without a history.
    one, other = (1 - of_given(probabilities, labels) for probabilities in (found, without))
    apart = (other.unsqueeze(1) - other).abs() > 1e-4
    assert torch.equal((one.unsqueeze(1) > one)[apart], (other.unsqueeze(1) > other)[apart])


@pytest.mark.parametrize("rest", [1.0, 0.95])
def test_no_history_makes_a_label_certain(rest: float) -> None:
    shares, labels, predictions, nothing = (*evidence(3)[:3], torch.zeros(300))
    history = torch.full((300,), rest)
    history[0] = 0.95
    found, without = (
        float(300 - of_given(judge(shares, labels, predictions, said).probabilities, labels).sum())
        for said in (history, nothing)
    )
    assert found == pytest.approx(without, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_said_of_a_sample_does_not_depend_on_where_it_stands(seed: int) -> None:
    evidences = evidence(seed)
    twice = [torch.cat([part, part]) for part in evidences]
    order = torch.randperm(600, generator=torch.Generator().manual_seed(seed))
    found, shuffled = (judge(*parts) for parts in (twice, [part[order] for part in twice]))
    torch.testing.assert_close(shuffled.probabilities, found.probabilities[order], rtol=0, atol=1e-4)
    torch.testing.assert_close(
        found.probabilities[:300], found.probabilities[300:], rtol=0, atol=0
    )  # the same evidence


def test_the_same_evidence_is_judged_the_same() -> None:
    groups = [(1000, 0.05, 0.01), (200, 0.8, 0.4), (60, 0.97, 0.001), (100, 0.97, 0.95)]
    against = torch.cat([torch.tensor([votes, model]).expand(count, 2) for count, votes, model in groups])
    labels = torch.where(torch.arange(1360) % 2 == 0, 0, 1)
    by_neighbors, by_model = (
        torch.stack([1 - share, share], dim=1).gather(1, torch.stack([labels, 1 - labels], dim=1))
        for share in against.T
    )
    found = judge(by_neighbors, labels, by_model, torch.full((1360,), torch.nan))
    right = of_given(found.probabilities, labels)
    for group in torch.split(right, [count for count, _, _ in groups]):
        for given_as in (0, 1):
            torch.testing.assert_close(group[given_as::2], group[given_as].expand(len(group) // 2), rtol=0, atol=1e-5)


def test_what_all_agree_upon_is_found_where_the_model_is_unsure_of_the_others() -> None:
    """Of two thousand samples half are hard: there the model says nothing, and the votes little."""
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(2000) % 10
    labels = torch.where(torch.arange(2000) < 40, (true + 1) % 10, true)
    hard = (torch.arange(2000) >= 1000).unsqueeze(1)
    one_hot = torch.nn.functional.one_hot(true, 10).float()
    noise = torch.randn(2000, 10, generator=generator).clamp(-2, 2)
    shares = (torch.where(hard, 2.5, 5.0) * one_hot + 0.5 * noise).softmax(dim=1)
    predictions = (torch.where(hard, 0.0, 5.0) * one_hot + 0.1 * noise).softmax(dim=1)
    found = judge(shares, labels, predictions, torch.full((2000,), torch.nan))
    against, issues = found.readings < 0.5, of_given(found.probabilities, labels) < 0.5
    assert against.all(dim=1).nonzero().flatten().tolist() == list(range(40))
    assert issues.nonzero().flatten().tolist() == list(range(40))


def test_small_doubts_are_told_apart() -> None:
    predictions = evidence(0, 30.0)[2]
    true = predictions.argmax(dim=1)  # no label is wrong
    found = judge(torch.nn.functional.one_hot(true, 3).float(), true, predictions, torch.linspace(0, 0.9, 300))
    assert len(set(of_given(found.probabilities, true).tolist())) < 250
    assert len(set(found.suspicion.tolist())) > 290
    # In the order of the probabilities, as far as these tell.
    assert (of_given(found.probabilities, true)[found.suspicion.argsort(descending=True)].diff() >= 0).all()


def test_few_wrong_labels_among_few_are_not_bounded_away() -> None:
    """Six of five hundred, of which the sure quarter has none by chance."""
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(500) % 5
    labels = true.clone()
    labels[:6] = (true[:6] + 1) % 5
    one_hot = torch.nn.functional.one_hot(true, 5).float()
    shares = 0.6 * one_hot + 0.08
    shares[6:] += 0.2 * one_hot[6:] * torch.rand(494, 1, generator=generator)
    shares /= shares.sum(dim=1, keepdim=True)
    predictions = (9 * one_hot + torch.randn(500, 5, generator=generator)).softmax(dim=1)
    found = judge(shares, labels, predictions, torch.full((500,), torch.nan))
    assert float(500 - found.readings[:, 1].sum()) < 3
    assert (found.probabilities.argmax(dim=1) != labels).nonzero().flatten().tolist() == list(range(6))


def test_where_neighbors_say_nothing_the_model_and_the_history_decide() -> None:
    _, labels, predictions, history = evidence(2)
    found = judge(torch.zeros(300, 3), labels, predictions, history)
    wrong, expected = 1 - of_given(found.probabilities, labels), 1 - of_given(predictions, labels)
    assert float(wrong.sum()) == pytest.approx(float(expected.sum()), rel=1e-4)
    doubt = found.suspicion
    torch.testing.assert_close(doubt, expected * (1 - history.clamp(max=0.99)), rtol=1e-4, atol=1e-6)
    factors = (wrong / (1 - wrong)) / (doubt / (1 - doubt))
    torch.testing.assert_close(factors, factors[0].expand(300), rtol=1e-3, atol=0)
    assert torch.equal(found.transition, torch.eye(3))
    assert not torch.equal(found.probabilities, predictions)  # which are the caller's


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=30), share=st.floats(0.01, 0.99))
def test_the_total_is_kept_and_the_order_is_what_it_was(values: list[float], share: float) -> None:
    wrong, total = torch.tensor(values).clamp(0.001, 0.999), share * len(values)
    found = with_total(wrong, total)
    assert float(found.double().sum()) == pytest.approx(total, abs=1e-3)
    assert (found[wrong.argsort(stable=True)].diff() >= 0).all()
    torch.testing.assert_close(with_total(found, total), found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("total", [0.5, 1.5, 3.0])
def test_odds_change_by_one_factor(total: float) -> None:
    wrong = torch.tensor([0.1, 0.4, 0.9, 0.99], dtype=torch.float64)
    found = with_total(wrong, total).double()
    factors = (found / (1 - found)) / (wrong / (1 - wrong))
    torch.testing.assert_close(factors, factors[0].expand(4), rtol=1e-4, atol=0)
    assert found.sum() == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize(
    ("values", "total", "expected"),
    [
        ([0.0, 0.0], 0.5, [0.0, 0.0]),
        ([1.0, 1.0], 0.5, [0.25, 0.25]),
        ([1.0, 0.0], 0.0, [0.0, 0.0]),
        ([1.0, 0.0], 2.0, [1.0, 0.0]),
    ],
)
def test_probabilities_of_zero_and_one(values: list[float], total: float, expected: list[float]) -> None:
    torch.testing.assert_close(with_total(torch.tensor(values), total), torch.tensor(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rest", [[0.2, 0.1], [0.0, 0.0]])
def test_the_others_keep_their_proportions(rest: list[float]) -> None:
    given_of = torch.tensor([[*rest[:1], 1 - sum(rest), *rest[1:]]])
    found = with_doubt(given_of, torch.tensor([1]), torch.tensor([0.6]))
    expected: Any = [[0.4, 0.4, 0.2]] if any(rest) else [[0.3, 0.4, 0.3]]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert found is given_of
