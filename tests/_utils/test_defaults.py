"""``torch.set_default_device`` changes nothing of what these return."""

import numpy as np
import torch

from mixnn_loader._utils.processes import Processes
from mixnn_loader._utils.random_state import RandomState
from mixnn_loader.data.labels import class_labels


def test_results_are_on_the_host_under_another_default_device() -> None:
    with torch.device("meta"):
        assert Processes().size == 1
        assert class_labels([], torch.empty(0, dtype=torch.int64, device="cpu")).device.type == "cpu"
        assert class_labels(np.array([1, 0]), torch.tensor([4, 5], device="cpu")).tolist() == [1, 0]
        state = RandomState.now()
        RandomState.from_state_dict(state.state_dict()).restore()
        assert torch.equal(RandomState.now().torch, state.torch)
