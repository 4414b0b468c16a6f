"""What holds for every method: it trains, predicts probabilities, and goes on where it was stopped."""

import io

import pytest
import torch
from toy_task import accuracy, toy, train

from benchmarks.methods import all_methods

METHODS = all_methods()


@pytest.mark.parametrize("name", METHODS)
def test_trains_and_goes_on_where_it_was_stopped(name: str) -> None:
    made = toy(epochs=6)
    whole = train(METHODS[name](made.task))
    stop = whole.num_epochs // 2
    first = METHODS[name](toy(epochs=6).task)
    for_resuming = METHODS[name](toy(epochs=6).task)
    train(first, epochs=stop)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    for_resuming.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    train(for_resuming, first=stop)
    for name_of_entry, expected in whole.state_dict().items():
        if isinstance(expected, torch.Tensor):
            found = for_resuming.state_dict()[name_of_entry]
            torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    assert accuracy(whole, made) > 0.4
    probabilities = whole.eval().predict(made.test.inputs)
    assert probabilities.shape == (len(made.test), 4)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(made.test)))
    score, labels = whole.clean_score(), whole.corrected_labels()
    assert score is None or (score.shape == made.true.shape and bool(score.isfinite().all()))
    assert labels is None or (labels.shape == made.true.shape and labels.dtype == torch.int64)
