"""Whole rows from backends that do not give them; see also the table of bad input."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mixnn_loader.neighbors import CellSearch, ExactSearch, search_all


class Fixed:
    """A backend with one answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Any:
        """Ignore the question."""
        del representations, k, queries
        return self.answer


@pytest.mark.parametrize("width", [0, 1, 2, 5])
def test_what_is_missing_is_searched(width: int) -> None:
    rows = torch.randn(20, 4)
    whole = ExactSearch().search(rows, 3)
    wide = ExactSearch().search(rows, 5)
    assert torch.equal(search_all(Fixed(wide[:, :width]), rows, 3).neighbors, whole)


def test_it_says_who_searched_and_at_what_recall() -> None:
    few = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    many = torch.randn(9_000, 2, generator=torch.Generator().manual_seed(0))
    exact, own = search_all(ExactSearch(), few, 1), search_all(Fixed(ExactSearch().search(few, 1)), few, 1)
    cells, too_few = search_all(CellSearch(), many, 1), search_all(CellSearch(), few, 1)
    assert (exact.backend, exact.recall) == ("ExactSearch", 1)
    assert (own.backend, own.recall) == ("Fixed", None)
    assert (too_few.backend, too_few.recall) == ("ExactSearch", 1)
    right = (cells.neighbors == ExactSearch().search(many, 1)).double().mean()
    assert cells.backend == "CellSearch"
    assert cells.recall == pytest.approx(float(right), abs=0.01)


def test_a_complete_answer_is_kept_as_it_is() -> None:
    answer = torch.tensor([[3], [2], [1], [0]])
    assert torch.equal(search_all(Fixed(answer.int()), torch.randn(4, 2), 1).neighbors, answer)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, r"integer tensor of shape \(4, 1\), got NoneType from Fixed"),
        (torch.zeros(3, 1, dtype=torch.int64), r"got torch.int64 of shape \(3, 1\) from Fixed"),
        (torch.zeros(4, 1), r"got torch.float32 of shape \(4, 1\) from Fixed"),
        (torch.tensor([[1], [4], [0], [0]]), "row numbers below 4, got 4 from Fixed"),
    ],
)
def test_an_answer_of_another_kind_is_refused(answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search_all(Fixed(answer), torch.randn(4, 2), 1)
