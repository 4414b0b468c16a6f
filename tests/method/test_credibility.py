"""Credibility by agreement and by vote: what they say of labels, and what they need."""

import numpy as np
import pytest
import torch
from posterior_reference import corrected, label_posterior
from torch import Tensor

from mixnn_loader._utils.warn_once import WarnOnce
from mixnn_loader.method import credibility
from mixnn_loader.method.credibility import (
    AgreementCredibility,
    Credibility,
    Evidence,
    MixtureCredibility,
    VoteCredibility,
)


def estimated(averages: torch.Tensor | None, labels: torch.Tensor) -> torch.Tensor:
    count = len(labels)
    evidence = Evidence(torch.arange(count), labels, torch.zeros(count), averages)
    return AgreementCredibility().estimate(evidence, WarnOnce()).log_posterior.exp()


def test_p_is_the_likelihood_of_the_given_label_against_that_of_the_likeliest() -> None:
    averages = torch.tensor([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.2, 0.1, 0.1], [0.0, 0.0, 0.0], [0.9, 0.0, 0.0]])
    labels = torch.tensor([0, 1, 0, 2, 1])
    torch.testing.assert_close(estimated(averages, labels), torch.tensor([1.0, 0.5, 1.0, 0.5, 1e-4]))


def test_it_says_nothing_of_a_share_of_wrong_labels_that_is_not_there() -> None:
    averages = torch.rand(200, 5, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    assert (estimated(averages, averages.argmax(dim=1)) == 1).all()


def test_averages_in_half_precision_are_enough() -> None:
    averages = torch.tensor([[0.6, 0.3]], dtype=torch.bfloat16)
    torch.testing.assert_close(estimated(averages, torch.tensor([1])), torch.tensor([0.5]), atol=0.01, rtol=0)


def test_without_averages_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="averages of predictions were not kept"):
        estimated(None, torch.tensor([0]))


def evidence_of(num_samples: int = 50, num_classes: int = 4) -> Evidence:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(num_classes, (num_samples,), generator=generator)
    averages, votes = (torch.randn(2, num_samples, num_classes, generator=generator) * 2).softmax(dim=2)
    return Evidence(torch.arange(num_samples), labels, torch.rand(num_samples, generator=generator), averages, votes)


@pytest.mark.parametrize(
    ("credibility", "uses"),
    [
        (MixtureCredibility(), (False, False)),
        (AgreementCredibility(), (True, False)),
        (VoteCredibility(), (False, True)),
        (VoteCredibility(ask_model=True), (True, True)),
    ],
    ids=repr,
)
def test_an_estimate_says_what_it_needs(credibility: Credibility, uses: tuple[bool, bool]) -> None:
    assert (credibility.uses_averages, credibility.uses_votes) == uses


def votes_on_labels(num_samples: int) -> tuple[Tensor, Tensor]:
    """Labels (n,), of which three in eight are wrong, and votes (n, 4), which are right more often than not."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(4, (num_samples,), generator=generator)
    wrong = torch.rand(num_samples, generator=generator) < 0.5
    labels = torch.where(wrong, torch.randint(4, (num_samples,), generator=generator), true)
    votes = torch.rand(num_samples, 4, generator=generator)
    votes[torch.arange(num_samples), true] += torch.rand(num_samples, generator=generator)
    return labels, votes / votes.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("progress", [0.0, 0.2, 0.9])
def test_votes_give_p_and_what_is_likely_in_place_of_the_label(
    progress: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credibility, "CHUNK_ROWS", 300)
    rows, (labels, votes) = np.arange(1000), votes_on_labels(1000)
    before = votes.clone()
    evidence = Evidence(torch.arange(1000), labels, torch.zeros(1000), None, votes, progress)
    answer = VoteCredibility().estimate(evidence, WarnOnce())
    probabilities, _, _, trust = label_posterior(votes.double().numpy(), labels.numpy())
    assert 0.3 < trust < 0.8
    p = probabilities[rows, labels]
    np.testing.assert_allclose(answer.log_posterior.exp(), p, atol=1e-5)
    assert answer.likely is not None
    targets = (1 - p[:, None]) * answer.likely.double().numpy()
    targets[rows, labels] += p
    np.testing.assert_allclose(targets, corrected(votes.double().numpy(), labels.numpy(), progress), atol=1e-5)
    assert torch.equal(votes, before), "which is the caller's"
    assert answer.mixture is None

    trusting = VoteCredibility(blame_labels=0.0).estimate(evidence, WarnOnce())
    p = label_posterior(votes.double().numpy(), labels.numpy(), 0.0)[0][rows, labels]
    np.testing.assert_allclose(trusting.log_posterior.exp(), p, atol=1e-5)
    assert trusting.log_posterior.exp().mean() > answer.log_posterior.exp().mean() + 0.01


@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_the_model_is_asked_too(progress: float) -> None:
    labels, votes = votes_on_labels(1000)
    averages = torch.randn(1000, 4, generator=torch.Generator().manual_seed(1)).softmax(dim=1) * 0.7
    averages[:50] = 0  # of whom the model has said nothing
    evidence = Evidence(torch.arange(1000), labels, torch.zeros(1000), averages, votes, progress)
    answer = VoteCredibility(ask_model=True).estimate(evidence, WarnOnce())
    rows, given = np.arange(1000), labels.numpy()
    posterior, _, _, trust = label_posterior(votes.double().numpy(), given)
    both = np.sqrt(posterior.clip(1e-6) * averages.double().numpy().clip(1e-6))
    both /= both.sum(axis=1, keepdims=True)
    both[:50] = posterior[:50]
    np.testing.assert_allclose(answer.log_posterior.exp(), both[rows, given], atol=1e-5)
    assert answer.likely is not None
    others = both.copy()
    others[rows, given] = 0
    likely = max(trust, progress) * others / others.sum(axis=1, keepdims=True)
    likely[rows, given] += 1 - max(trust, progress)
    np.testing.assert_allclose(answer.likely, likely, atol=1e-5)

    with pytest.raises(RuntimeError, match="averages of predictions were not kept"):
        VoteCredibility(ask_model=True).estimate(evidence._replace(averages=None), WarnOnce())


def test_a_label_that_is_not_known_yet_tests_no_vote() -> None:
    labels = evidence_of(300).labels
    votes = torch.nn.functional.one_hot(labels, 4) * 0.6 + 0.1
    known = Evidence(torch.arange(300), labels, torch.zeros(300), votes=votes)
    more = torch.cat([labels, torch.full((300,), -1)])
    unknown = Evidence(torch.arange(600), more, torch.zeros(600), votes=votes.repeat(2, 1))
    first, second = (VoteCredibility().estimate(part, WarnOnce()) for part in (known, unknown))
    assert torch.equal(second.log_posterior[:300], first.log_posterior)


def test_without_votes_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="neighbors were not asked"):
        VoteCredibility().estimate(evidence_of()._replace(votes=None), WarnOnce())
