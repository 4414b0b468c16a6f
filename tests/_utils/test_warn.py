"""Warnings that point at the user's line."""

import warnings
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss
from mixnn_loader._utils.warn import warn_user


def caught(function: Any) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        function()
    return found


def test_a_warning_of_the_library_is_of_the_line_that_calls_it() -> None:
    model = mlp()
    loader = MixNNDataLoader(DataLoader(Points(), 8), model, warmup_epochs=0)

    def looks_only() -> None:
        for _ in loader:  # nothing is trained
            pass

    def plain_labels() -> None:
        MixNNDataLoader(DataLoader(Points(), 8), model, warmup_epochs=0)
        idle = MixNNDataLoader(DataLoader(Points(), 8), model, warmup_epochs=0)
        MixNNLoss()(torch.zeros(2, 3, requires_grad=True), torch.tensor([0, 1]))
        del idle

    for function, text in ((looks_only, "have not changed"), (plain_labels, "plain class indices")):
        [warning] = [found for found in caught(function) if text in str(found.message)]
        assert warning.filename in (__file__, MixNNLoss.__call__.__code__.co_filename)


def test_without_a_user_it_is_of_the_caller() -> None:
    with pytest.warns(DeprecationWarning, match="old") as found:
        warn_user("old", DeprecationWarning)
    assert found[0].filename == __file__
