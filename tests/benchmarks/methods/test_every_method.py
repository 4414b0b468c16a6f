"""What holds for every method: it trains, predicts probabilities, and goes on where it was stopped."""

import pytest
import torch
from toy_measures import assert_goes_on
from toy_task import accuracy, toy

from benchmarks.methods import all_methods

METHODS = all_methods()


@pytest.mark.parametrize("name", METHODS)
def test_trains_and_goes_on_where_it_was_stopped(name: str) -> None:
    made = toy(epochs=6)
    whole = assert_goes_on(lambda: METHODS[name](toy(epochs=6).task))
    assert accuracy(whole, made) > 0.4
    probabilities = whole.eval().predict(made.test.inputs)
    assert probabilities.shape == (len(made.test), 4)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(made.test)))
    score, labels = whole.clean_score(), whole.corrected_labels()
    assert score is None or (score.shape == made.true.shape and bool(score.isfinite().all()))
    assert labels is None or (labels.shape == made.true.shape and labels.dtype == torch.int64)
