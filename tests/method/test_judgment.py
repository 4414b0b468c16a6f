"""What is made of votes, predictions and the history of a training: against NumPy, and by its laws."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from judgment_reference import judgment
from torch import Tensor

from mixnn_loader.method.judgment import at_most, judge, with_doubt


def evidence(seed: int, sure: float = 4.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Votes, labels of which a fifth is wrong, predictions as sure as told, and the history, of 300 samples."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(3, (300,), generator=generator)
    flips = torch.rand(300, generator=generator) < 0.2
    labels = torch.where(flips, (true + 1) % 3, true)
    one_hot = torch.nn.functional.one_hot(true, 3).float()
    shares = (2 * one_hot + torch.randn(300, 3, generator=generator)).softmax(dim=1)
    predictions = (sure * one_hot + torch.randn(300, 3, generator=generator)).softmax(dim=1)
    return shares, labels, predictions, torch.rand(300, generator=generator)


@pytest.mark.parametrize("sure", [0.0, 1.0, 4.0, 12.0])
@pytest.mark.parametrize("seed", range(3))
def test_against_numpy(seed: int, sure: float) -> None:
    shares, labels, predictions, history = evidence(seed, sure)
    history[:5] = torch.nan
    found = judge(shares, labels, predictions, history)
    probabilities, readings = judgment(*(part.double().numpy() for part in (shares, labels, predictions, history)))
    np.testing.assert_allclose(found.probabilities, probabilities, atol=2e-4)
    np.testing.assert_allclose(found.readings, readings, atol=1e-4)


def test_more_wrong_labels_than_neighbors_allow_for_are_not_found() -> None:
    shares, labels, predictions, _ = evidence(0, 12.0)
    against = torch.roll(predictions, 1, dims=1)  # sure, and wrong of everyone
    found = judge(shares, labels, against, torch.zeros(300))
    assert found.readings[:, 2].mean() < 0.3
    wrong = 300 - found.probabilities.gather(1, labels.unsqueeze(1)).sum()
    assert float(wrong) == pytest.approx(float(300 - found.readings[:, 1].sum()), abs=0.1)


def test_labels_that_the_model_has_gone_for_are_doubted_less() -> None:
    shares, labels, predictions, nothing = (*evidence(1)[:3], torch.zeros(300))
    history = nothing.clone()
    history[:150] = 0.5
    never, some = (
        judge(shares, labels, predictions, said).probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
        for said in (nothing, history)
    )
    assert (some[:150] >= never[:150]).all()
    assert some[:150].sum() > never[:150].sum() + 1


def test_where_neighbors_say_nothing_the_model_and_the_history_decide() -> None:
    _, labels, predictions, history = evidence(2)
    found = judge(torch.zeros(300, 3), labels, predictions, history)
    own = predictions.gather(1, labels.unsqueeze(1)).squeeze(1)
    expected = 1 - (1 - own) * (1 - history)
    torch.testing.assert_close(found.probabilities.gather(1, labels.unsqueeze(1)).squeeze(1), expected)
    assert torch.equal(found.transition, torch.eye(3))
    assert not torch.equal(found.probabilities, predictions)  # which are the caller's


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=30), share=st.floats(0.01, 0.99))
def test_the_bound_is_kept_and_the_order_is_what_it_was(values: list[float], share: float) -> None:
    wrong, most = torch.tensor(values).clamp(0.001, 0.999), share * len(values)
    found = at_most(wrong, most)
    assert float(found.double().sum()) == pytest.approx(min(most, float(wrong.double().sum())), abs=1e-3)
    assert (found[wrong.argsort(stable=True)].diff() >= 0).all()
    torch.testing.assert_close(at_most(found, most + 1e-3), found)


def test_odds_change_by_one_factor() -> None:
    wrong = torch.tensor([0.1, 0.4, 0.9, 0.99], dtype=torch.float64)
    found = at_most(wrong, 1.5).double()
    factors = (found / (1 - found)) / (wrong / (1 - wrong))
    torch.testing.assert_close(factors, factors[0].expand(4), rtol=1e-4, atol=0)
    assert found.sum() == pytest.approx(1.5, abs=1e-5)


@pytest.mark.parametrize(("values", "most"), [([0.0, 0.0], 0.0), ([1.0, 1.0], 0.5), ([1.0, 0.3], 0.0)])
def test_probabilities_of_zero_and_one_stay_finite(values: list[float], most: float) -> None:
    found = at_most(torch.tensor(values), most)
    assert found.isfinite().all()
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("rest", [[0.2, 0.1], [0.0, 0.0]])
def test_the_others_keep_their_proportions(rest: list[float]) -> None:
    given_of = torch.tensor([[*rest[:1], 1 - sum(rest), *rest[1:]]])
    found = with_doubt(given_of, torch.tensor([1]), torch.tensor([0.6]))
    expected: Any = [[0.4, 0.4, 0.2]] if any(rest) else [[0.3, 0.4, 0.3]]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert found is given_of
