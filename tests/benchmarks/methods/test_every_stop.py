"""Methods that train several times go on after whichever epoch they are stopped."""

import copy
import io
from typing import Any

import pytest
import torch
from toy_task import Toy, toy, train

from benchmarks.methods import all_methods

METHODS = all_methods()


def small() -> Toy:
    return toy(epochs=3, num_samples=80)


@pytest.mark.parametrize("name", ["iterative-cv", "nlnl", "o2u-net"])
def test_goes_on_after_every_epoch(name: str) -> None:
    options: dict[str, Any] = {"length": 0.4} if name == "nlnl" else {}
    whole = METHODS[name](small().task, **options)
    states = []
    for epoch in range(whole.num_epochs):
        train(whole, first=epoch, epochs=epoch + 1)
        file = io.BytesIO()
        torch.save(whole.state_dict(), file)
        states.append(file.getvalue())
    expected = copy.deepcopy(whole.state_dict())
    for epoch in range(whole.num_epochs - 1):
        method = METHODS[name](small().task, **options)
        method.load_state_dict(torch.load(io.BytesIO(states[epoch]), weights_only=True))
        train(method, first=epoch + 1)
        for entry, value in method.state_dict().items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, expected[entry], rtol=0, atol=0, equal_nan=True)
