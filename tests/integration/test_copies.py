"""A loader can be copied together with its model; the copy has the same future."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from toy import Points, mlp, tensors_of

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss

LENGTH = 5
SETTINGS: dict[str, Any] = {"warmup_epochs": 1, "correction_epoch": 2, "momentum": 0.7, "num_neighbors": 2}


class Named(Dataset[Any]):
    """Samples as mappings with keys of their own."""

    def __init__(self) -> None:
        self.points = Points()

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> dict[str, Any]:
        inputs, label = self.points[index]
        return {"x": inputs, "y": label}


class Run:
    """What a user has: a model, an optimizer and the loader."""

    def __init__(self, data: Any = None, sampling: dict[str, Any] | None = None, **arguments: Any) -> None:
        self.model = mlp()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.criterion = MixNNLoss()
        plain = DataLoader(Points() if data is None else data, 8, shuffle=True, **(sampling or {}))
        self.loader = MixNNDataLoader(plain, self.model, **(SETTINGS | arguments))

    def batches(self) -> Iterator[MixNNBatch]:
        """Train for ever."""
        while True:
            for batch in self.loader:
                loss = self.criterion(self.model(batch.inputs), batch.targets)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                yield batch


def by_pickle(run: Run) -> Run:
    copied: Run = pickle.loads(pickle.dumps(run))
    return copied


def future(batches: Iterator[MixNNBatch]) -> list[dict[str, Tensor]]:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        some = [next(batches) for _ in range(2 * LENGTH + 2)]
    return [{"inputs": batch.inputs, **tensors_of(batch.targets)} for batch in some]


WAYS: dict[str, Callable[[], Run]] = {
    "plain": Run,
    "generator": lambda: Run(sampling={"generator": torch.Generator().manual_seed(4)}),
    "persistent workers": lambda: Run(sampling={"num_workers": 1, "persistent_workers": True}),
    "keys": lambda: Run(Named(), unpack=("x", "y")),
    "feature layer by name": lambda: Run(feature_layer="head", scan="running"),
    "in the batch": lambda: Run(neighbors="batch", scan="running", weighting="beta"),
}


@pytest.mark.parametrize(
    ("steps", "copied"), [(LENGTH, copy.deepcopy), (3 * LENGTH + 1, by_pickle)], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("way", WAYS)
def test_a_copy_has_the_same_future(way: str, steps: int, copied: Callable[[Run], Run]) -> None:
    run = WAYS[way]()
    batches = run.batches()
    for _ in range(steps):
        next(batches)
    other = copied(run)
    assert other.loader is not run.loader
    assert (other.loader.epoch, other.loader.batch) == (run.loader.epoch, run.loader.batch)
    for batch, same in zip(future(batches), future(other.batches()), strict=True):
        for name, tensor in batch.items():
            assert torch.equal(tensor, same[name]), name
    for parameter, same_one in zip(run.model.parameters(), other.model.parameters(), strict=True):
        assert parameter is not same_one
        assert torch.equal(parameter, same_one), "the loader looks at the model that was copied with it"


def test_a_feature_layer_is_that_of_the_copied_model() -> None:
    run = Run()
    run.loader = MixNNDataLoader(Points(), run.model, batch_size=8, feature_layer=run.model.head, **SETTINGS)
    other = copy.deepcopy(run)
    batches = other.batches()
    for _ in range(LENGTH + 1):
        next(batches)


def test_a_shallow_copy_is_a_second_loader_over_the_same() -> None:
    run = Run(sampling={"generator": torch.Generator().manual_seed(4)})
    batches = run.batches()
    for _ in range(LENGTH + 2):
        next(batches)
    before = run.loader.state_dict()
    second = copy.copy(run.loader)
    assert second.dataset is run.loader.dataset
    rest = [batch.targets.indices for batch in second]
    assert len(rest) == LENGTH - 2
    assert torch.equal(run.loader.soft_targets, before["samples"]["soft_targets"])
    assert (run.loader.epoch, run.loader.batch) == (1, 2)
    for expected in rest:
        assert torch.equal(next(batches).targets.indices, expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle], ids=["deepcopy", "pickle"])
def test_what_cannot_be_copied_says_how_to_get_there(copied: Callable[[Any], Any]) -> None:
    run = Run(prepare=Uncopyable())
    with pytest.raises(TypeError, match=r"cannot be.*: no copies of me; .*build a new loader.*state_dict\(\)"):
        copied(run)


def test_a_lambda_is_named() -> None:
    run = Run(sampling={"collate_fn": lambda samples: samples})
    with pytest.raises(TypeError, match=r"the loader cannot be pickled, as its collate_fn cannot be.*state_dict\(\)"):
        by_pickle(run)
    copy.deepcopy(run)


class Uncopyable:
    """Holds something like an open file."""

    def __call__(self, inputs: Tensor) -> Tensor:
        return inputs

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("no copies of me")
