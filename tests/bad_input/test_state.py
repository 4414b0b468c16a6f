"""The state of another run, and targets that do not fit the model's output."""

from typing import Any

import pytest
import torch
from bad_input.hostile import run
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"data": Points(41)}, "over 40 samples, this loader has 41"),
        ({"num_classes": 4}, "over 3 classes, this loader has 4"),
        ({"num_neighbors": 2}, "num_neighbors=1, this loader has 2"),
        ({"neighbor_pool": 5}, "over 1 neighbors a sample, this loader has 5"),
    ],
)
def test_the_state_of_another_run(other: dict[str, Any], message: str) -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8, warmup_epochs=0)
    run(loader)
    settings: dict[str, Any] = {"data": Points(), "model": mlp(), "batch_size": 8, **other}
    with pytest.raises(ValueError, match=message):
        MixNNDataLoader(**settings).load_state_dict(loader.state_dict())


def test_the_state_of_a_model_of_another_width() -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8, warmup_epochs=1)
    run(loader)
    wider = MixNNDataLoader(Points(), mlp(num_classes=5), batch_size=8, warmup_epochs=1)
    wider.load_state_dict(loader.state_dict())
    with pytest.raises(ValueError, match="output is 5 wide, the soft targets are over 3 classes"):
        run(wider)


def test_the_state_of_another_schedule_is_warned_of() -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8, epochs=6)
    run(loader)
    longer = MixNNDataLoader(Points(), mlp(), batch_size=8, epochs=100)
    message = "mixing and of correction are 1 and 1; those of this loader are 3 and 20, and epoch 1 comes next"
    with pytest.warns(UserWarning, match=message):
        longer.load_state_dict(loader.state_dict())


def test_the_state_of_another_version() -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8)
    with pytest.raises(ValueError, match="state is of version 99"):
        loader.load_state_dict({**loader.state_dict(), "version": 99})


def test_a_whole_checkpoint_in_place_of_the_state_in_it() -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8)
    checkpoint = {"model": mlp().state_dict(), "loader": loader.state_dict()}
    message = (
        r"this is no state of a MixNNDataLoader, its keys are \['model', 'loader'\]; "
        r"pass what its state_dict\(\) returned, such as checkpoint\['loader'\]$"
    )
    with pytest.raises(ValueError, match=message):
        loader.load_state_dict(checkpoint)
    loader.load_state_dict(checkpoint["loader"])


@pytest.mark.parametrize("state", [None, "checkpoint.pt", [1]])
def test_a_state_that_is_no_mapping(state: Any) -> None:
    message = rf"state must be what state_dict\(\) of a MixNNDataLoader returned, got {type(state).__name__}$"
    with pytest.raises(TypeError, match=message):
        MixNNDataLoader(Points(), mlp()).load_state_dict(state)


def test_logits_of_another_shape_or_device() -> None:
    batch = next(iter(MixNNDataLoader(Points(), mlp(), batch_size=8)))
    for shape in ((8, 4), (7, 3), (8,), (8, 3, 1)):
        with pytest.raises(ValueError, match=rf"got logits \({', '.join(map(str, shape))},?\) and targets \(8, 3\)"):
            MixNNLoss()(torch.zeros(shape), batch)
    with pytest.raises(ValueError, match="logits are on meta and targets on cpu"):
        MixNNLoss()(torch.zeros(8, 3, device="meta"), batch)
