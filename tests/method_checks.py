"""What tests of several methods need: plain training to compare with, and runs that are stopped and go on."""

import io
from collections.abc import Callable
from functools import cache

import torch
from toy_task import accuracy, toy, train

from benchmarks.methods.cross_entropy import CrossEntropy
from benchmarks.methods.protocol import Method


@cache
def plain_accuracy(rate: float, epochs: int) -> float:
    """Return the accuracy of plain training on a toy, trained once for all tests."""
    made = toy(rate=rate, epochs=epochs)
    return accuracy(train(CrossEntropy(made.task)), made)


def assert_goes_on(make: Callable[[], Method], stop: int) -> None:
    """Check that a run that is stopped after so many epochs ends as one that is not."""
    whole, stopped, resumed = train(make()), train(make(), epochs=stop), make()
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    train(resumed, first=stop)
    found = resumed.state_dict()
    for name, expected in whole.state_dict().items():
        if isinstance(expected, torch.Tensor):
            torch.testing.assert_close(found[name], expected, rtol=0, atol=0, equal_nan=True)
