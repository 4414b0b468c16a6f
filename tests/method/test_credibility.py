"""Credibility by agreement: the average of predictions against the given label."""

import pytest
import torch

from mixnn_loader._utils.warn_once import WarnOnce
from mixnn_loader.method.credibility import AgreementCredibility, Evidence


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
