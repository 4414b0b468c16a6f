"""When the training says that warm-up is over."""

from typing import Any

import pytest
import torch
from toy_settings import settings

from mixnn_loader.run.epoch import Record
from mixnn_loader.run.tally import Tally
from mixnn_loader.run.warmup import changed, first_after_warmup


def history(*shares: float | None) -> list[Record]:
    return [{"epoch": epoch, "phase": "warm-up", "changed_share": share} for epoch, share in enumerate(shares)]


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([], 10),
        ([None], 10),
        ([None, 0.5, 0.15], 10),  # that is not yet few
        ([None, 0.5, 0.14], 3),
        ([None, 0.5, 0.14, 0.6], 3),
        ([None, 0.5, 0.44, 0.39], 10),  # it goes on settling
        ([None, 0.5, 0.46], 3),
        ([None, 0.5, 0.3, 0.35, 0.1], 4),
        ([None, 0.5, None, 0.46], 10),  # of an epoch without a share nothing is known
        ([0.1], 1),
        ([None] * 10 + [0.1], 10),  # never longer than it may be
        ([None] * 12 + [0.1], 10),
    ],
)
def test_warm_up_ends_when_few_predictions_change_or_hardly_fewer_than_before(
    shares: list[float | None], expected: int
) -> None:
    assert (
        first_after_warmup(settings(warmup_epochs="settled", correction_epoch=None, epochs=80), history(*shares))
        == expected
    )


@pytest.mark.parametrize(("warmup_epochs", "expected"), [(7, 7), (0, 0), ("auto", 2)])
def test_a_fixed_warm_up_goes_by_nothing_else(warmup_epochs: Any, expected: int) -> None:
    assert (
        first_after_warmup(settings(warmup_epochs=warmup_epochs, correction_epoch=None, epochs=60), history(None, 0.1))
        == expected
    )


@pytest.mark.parametrize(("epochs", "most"), [(None, 10), (1, 0), (2, 1), (8, 1), (30, 4), (40, 5), (400, 50)])
def test_it_is_an_eighth_of_the_training_at_most(epochs: int | None, most: int) -> None:
    assert settings(warmup_epochs="settled", correction_epoch=None, epochs=epochs).warmup == most


def test_a_state_of_an_older_version_has_no_such_share() -> None:
    old = [{"epoch": 0, "phase": "warm-up"}]
    assert first_after_warmup(settings(warmup_epochs="settled", correction_epoch=None, epochs=80), old) == 10


def test_changed_counts_those_of_whom_something_was_known() -> None:
    before = torch.tensor([[0.0, 0.0], [0.6, 0.4], [0.6, 0.4], [0.2, 0.8]])
    after = torch.tensor([[0.1, 0.9], [0.4, 0.6], [0.9, 0.1], [0.8, 0.2]])
    assert changed(before, after).tolist() == [2, 3]
    assert changed(before, after, torch.tensor([True, True, True, False])).tolist() == [1, 2]


def test_a_tally_adds_up_over_processes_and_goes_on_from_a_state() -> None:
    tally = Tally()
    assert tally.share() is None
    tally.add(torch.tensor([1.0, 4.0]))
    tally.add_up(lambda own: 3 * own)
    tally.add(torch.tensor([2.0, 4.0]))
    assert tally.share() == (3 + 2) / (12 + 4)
    again = Tally(tally.state())
    tally.add(torch.tensor([4.0, 4.0]))
    assert again.share() == 5 / 16
    again.add_up(lambda own: 2 * own)
    assert again.share() == (3 + 4) / (12 + 8)
