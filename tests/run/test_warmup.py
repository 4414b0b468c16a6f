"""When the training says that warm-up is over."""

from typing import Any

import pytest
from toy_settings import settings

from mixnn_loader.run.epoch import Record
from mixnn_loader.run.warmup import first_after_warmup


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
        ([None, 0.5, 0.25, 0.22], 10),  # it goes on settling
        ([None, 0.5, 0.25, 0.23], 4),
        ([None, 0.5, 0.2, 0.24, 0.1], 4),
        ([None, 0.5, 0.46, 0.44], 10),  # half of its most changes are still there
        ([None, 0.1, 0.09, 0.06], 10),  # it may only be getting under way
        ([None, 0.01, 0.1, 0.6, 0.2, 0.1], 6),
        ([None, 0.14, 0.01], 10),
        ([None, 0.0, 0.0], 10),
        ([0.1], 10),
        ([None, 0.5, None, 0.16], 10),  # of an epoch without a share nothing is known
        ([None] * 9 + [0.5, 0.1], 10),  # never longer than it may be
    ],
)
def test_warm_up_ends_when_few_predictions_change_or_hardly_fewer_than_before(
    shares: list[float | None], expected: int
) -> None:
    assert (
        first_after_warmup(settings(warmup_epochs="settled", correction_epoch=None, epochs=80), history(*shares))
        == expected
    )


def test_what_has_been_mixed_was_after_warm_up() -> None:
    made = settings(warmup_epochs="settled", correction_epoch=None, epochs=80)
    mixed = [*history(None, 0.5, 0.4), {"epoch": 3, "phase": "mixing"}, {"epoch": 4, "phase": "mixing"}]
    assert first_after_warmup(made, mixed) == 3
    assert first_after_warmup(made, [{"epoch": 30, "phase": "mixing"}]) == 10


@pytest.mark.parametrize(("warmup_epochs", "expected"), [(7, 7), (0, 0), ("auto", 2)])
def test_a_fixed_warm_up_goes_by_nothing_else(warmup_epochs: Any, expected: int) -> None:
    assert (
        first_after_warmup(settings(warmup_epochs=warmup_epochs, correction_epoch=None, epochs=60), history(None, 0.1))
        == expected
    )


@pytest.mark.parametrize(
    ("epochs", "most"), [(None, 10), (1, 0), (2, 1), (17, 2), (20, 2), (30, 4), (40, 5), (400, 50)]
)
def test_it_is_an_eighth_of_the_training_at_most(epochs: int | None, most: int) -> None:
    assert settings(warmup_epochs="settled", correction_epoch=None, epochs=epochs).longest_warmup == most


@pytest.mark.parametrize(("epochs", "most"), [(3, 1), (6, 1), (8, 2), (10, 3), (12, 4), (14, 3), (16, 2)])
def test_it_is_more_of_a_short_training_at_most(epochs: int, most: int) -> None:
    assert settings(warmup_epochs="settled", correction_epoch=None, epochs=epochs).longest_warmup == most


def test_a_state_of_an_older_version_has_no_such_share() -> None:
    old = [{"epoch": 0, "phase": "warm-up"}]
    assert first_after_warmup(settings(warmup_epochs="settled", correction_epoch=None, epochs=80), old) == 10
