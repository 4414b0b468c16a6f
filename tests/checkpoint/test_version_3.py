"""States that the last release of version 3 has saved, with the batches that it gave after them.

The file holds, of several trainings of 40 points in batches of 8 (K = 2, W = 1, E_s = 2, α = 0.7, SGD at 0.1), the
state of the loader, that of the model, that of PyTorch's generator, and the next five batches at most.
"""

import io
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from toy import Points, mlp

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss

CASES = {
    "in warm-up": (0, 2),
    "within": (2, 2),
    "between epochs": (2, 0),
    "after the last batch": (2, 0),
    "running scan": (3, 3),
    "running scan, between epochs": (3, 0),
    "in the batch": (2, 2),
}
"""The epoch and the batch that a loader is at that has taken over the state."""


@cache
def trainings() -> Any:
    packed = (Path(__file__).parent / "version_3.pt.xz").read_bytes()
    return torch.load(io.BytesIO(lzma.decompress(packed)), weights_only=True)


def shuffling(mode: Any) -> MixNNDataLoader:
    """Build a loader like the saved ones."""
    return MixNNDataLoader(
        Points(), mlp(), batch_size=8, shuffle=True, generator=torch.Generator(), num_neighbors=2, **mode
    )


def resumed(saved: Any, sampler: Any = None) -> tuple[MixNNDataLoader, list[MixNNBatch]]:
    """Go on for as many batches as are known."""
    model = mlp()
    generator = torch.Generator()
    plain = DataLoader(Points(), 8, shuffle=sampler is None, sampler=sampler, generator=generator)
    loader = MixNNDataLoader(
        plain, model, num_neighbors=2, warmup_epochs=1, correction_epoch=2, momentum=0.7, **saved["mode"]
    )
    loader.load_state_dict(saved["loader"])
    model.load_state_dict(saved["model"])
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.1), MixNNLoss()
    batches: list[MixNNBatch] = []
    with torch.random.fork_rng():
        torch.set_rng_state(saved["rng"])
        while len(batches) < len(saved["rest"]):
            for inputs, targets in loader:
                batches.append(MixNNBatch(inputs, targets))
                loss = criterion(model(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if len(batches) == len(saved["rest"]):
                    break
    return loader, batches


@pytest.mark.parametrize("case", CASES)
def test_the_place_is_the_same(case: str) -> None:
    saved = trainings()[case]
    loader = shuffling(saved["mode"])
    loader.load_state_dict(saved["loader"])
    assert (loader.epoch, loader.batch) == CASES[case]
    again = shuffling(saved["mode"])
    again.load_state_dict(loader.state_dict())  # now of today's version
    assert (again.epoch, again.batch) == CASES[case]


@pytest.mark.parametrize("case", CASES)
def test_the_training_goes_on(case: str) -> None:
    saved = trainings()[case]
    loader, batches = resumed(saved)
    rest_of_epoch = 5 - CASES[case][1]
    assert len(batches) == len(saved["rest"]) == 5
    for number, (batch, expected) in enumerate(zip(batches, saved["rest"], strict=True)):
        assert torch.equal(batch.targets.indices, expected["indices"])
        if number >= rest_of_epoch:  # P of the next epoch is estimated otherwise
            continue
        assert torch.equal(batch.targets.neighbors, expected["neighbors"])
        if CASES[case][1] > 0:
            torch.testing.assert_close(batch.targets.weights, expected["weights"])
            torch.testing.assert_close(batch.inputs, expected["inputs"])
        torch.testing.assert_close(batch.targets.soft_targets, expected["soft_targets"], rtol=1e-3, atol=1e-3)
    assert [record["epoch"] for record in loader.history] == list(range(loader.history[-1]["epoch"] + 1))
    if case == "after the last batch":
        assert loader.history[1]["same_label_share"] is not None


@pytest.mark.filterwarnings("ignore:the state has generators for sampler")
def test_who_has_been_seen_still_takes_part_where_the_sampler_does_not_tell() -> None:
    class Unknown(torch.utils.data.Sampler[int]):
        def __iter__(self) -> Any:
            return iter(torch.randperm(40).tolist())

        def __len__(self) -> int:
            return 40

    loader, _ = resumed(trainings()["between epochs"], Unknown())
    assert (loader.clean_probability >= 0).all()


@pytest.mark.parametrize(
    "entry", ["samples", "history", "epoch", "batch", "within", "sampler_state", "merged", "pairs"]
)
def test_one_that_is_not_whole(entry: str) -> None:
    state = dict(trainings()["within"]["loader"])
    del state[entry]
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8, num_neighbors=2)
    with pytest.raises(ValueError, match=rf"has no '{entry}'.*is the checkpoint whole"):
        loader.load_state_dict(state)
    with pytest.raises(ValueError, match="cannot be read"):
        loader.load_state_dict({**trainings()["within"]["loader"], "samples": 3})
