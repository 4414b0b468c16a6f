"""Credibility by agreement: the average of predictions against the given label."""

import numpy as np
import pytest
import torch

from mixnn_loader._utils.warn_once import WarnOnce
from mixnn_loader.method.credibility import (
    AgreementCredibility,
    Credibility,
    EitherCredibility,
    Estimate,
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


def test_either_takes_the_larger_p_and_what_both_find_likely() -> None:
    evidence, warn = evidence_of(), WarnOnce()
    vote, agreement = (
        VoteCredibility().estimate(evidence, warn),
        AgreementCredibility().estimate(evidence, warn),
    )
    either = EitherCredibility(VoteCredibility(), AgreementCredibility()).estimate(evidence, warn)
    assert torch.equal(either.log_posterior, torch.maximum(vote.log_posterior, agreement.log_posterior))
    assert (either.log_posterior == vote.log_posterior).any()
    assert (either.log_posterior == agreement.log_posterior).any()
    assert vote.likely is not None
    assert agreement.likely is not None
    assert either.likely is not None
    product = vote.likely.double().numpy() * agreement.likely.double().numpy()
    np.testing.assert_allclose(either.likely, product / product.sum(axis=1, keepdims=True), atol=1e-6)


def test_either_of_estimates_that_find_nothing_likely_finds_nothing_likely() -> None:
    class Certain(Credibility):
        def estimate(self, evidence: Evidence, warn: WarnOnce) -> Estimate:
            del warn
            return Estimate(torch.zeros_like(evidence.losses), None)

    answer = EitherCredibility(Certain(), MixtureCredibility()).estimate(evidence_of(), WarnOnce())
    assert answer.likely is None
    assert answer.mixture is not None
    assert (answer.log_posterior == 0).all()


@pytest.mark.parametrize(
    ("credibility", "uses"),
    [
        (MixtureCredibility(), (False, False)),
        (AgreementCredibility(), (True, False)),
        (VoteCredibility(), (False, True)),
        (EitherCredibility(), (True, True)),
        (EitherCredibility(MixtureCredibility(), AgreementCredibility()), (True, False)),
    ],
    ids=repr,
)
def test_an_estimate_says_what_it_needs(credibility: Credibility, uses: tuple[bool, bool]) -> None:
    assert (credibility.uses_averages, credibility.uses_votes) == uses


def test_who_has_said_nothing_of_a_sample_yet_abstains() -> None:
    evidence = evidence_of()
    assert evidence.averages is not None
    evidence = evidence._replace(averages=torch.zeros_like(evidence.averages))
    vote, either = (part.estimate(evidence, WarnOnce()) for part in (VoteCredibility(), EitherCredibility()))
    assert torch.equal(either.log_posterior, vote.log_posterior)
    assert vote.likely is not None
    assert either.likely is not None
    torch.testing.assert_close(either.likely, vote.likely)


def test_estimates_may_be_named() -> None:
    either = EitherCredibility("mixture", "agreement")
    assert repr(either) == "EitherCredibility(MixtureCredibility(), AgreementCredibility())"
    with pytest.raises(ValueError, match="credibility must be one of"):
        EitherCredibility("votes")


def test_surely_wrong_is_an_answer_and_no_silence() -> None:
    class Wrong(Credibility):
        def estimate(self, evidence: Evidence, warn: WarnOnce) -> Estimate:
            del warn
            return Estimate(torch.full_like(evidence.losses, -torch.inf), None)

    assert EitherCredibility(Wrong(), Wrong()).estimate(evidence_of(), WarnOnce()).log_posterior.isneginf().all()


def test_where_nobody_has_said_anything_a_half_stands() -> None:
    evidence = evidence_of()
    assert evidence.averages is not None
    evidence = evidence._replace(averages=torch.zeros_like(evidence.averages))
    answer = EitherCredibility("agreement").estimate(evidence, WarnOnce())
    torch.testing.assert_close(answer.log_posterior.exp(), torch.full_like(evidence.losses, 0.5))
