"""What a dataset gives besides inputs and label comes along on request, of the samples themselves."""

from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes


class Named(Dataset[Any]):
    """Points with a path, an index and a pair of numbers."""

    def __init__(self, *, as_mapping: bool = False) -> None:
        self.points, self.as_mapping = Points(), as_mapping

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> Any:
        inputs, label = self.points[index]
        if self.as_mapping:
            return {"pixel_values": inputs, "label": label, "path": f"{index}.png", "place": {"row": index}}
        return inputs, label, f"{index}.png", index, np.array([index, -index])


MODES = pytest.mark.parametrize(
    "mode", [{"num_neighbors": 2}, {"neighbors": "batch"}, recipes.robust(epochs=3)], ids=["dataset", "batch", "robust"]
)


@MODES
@pytest.mark.parametrize("num_workers", [0, 2])
def test_extras_are_those_of_the_samples(mode: dict[str, Any], num_workers: int) -> None:
    model = mlp()
    plain = DataLoader(Named(), 8, shuffle=True, num_workers=num_workers)
    loader = MixNNDataLoader(plain, model, **({"warmup_epochs": 1, "correction_epoch": 2} | mode), extras=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        for inputs, targets, paths, index, pair in cast(Any, loader):
            assert torch.equal(index, targets.indices)
            assert list(paths) == [f"{i}.png" for i in index.tolist()]
            assert torch.equal(pair, torch.stack([index, -index], dim=1))
            optimizer.zero_grad()
            MixNNLoss()(model(inputs), targets).backward()
            optimizer.step()
    with torch.no_grad():
        for batch in loader:
            assert torch.equal(batch.extras[1], batch.targets.indices)


@MODES
def test_of_a_mapping_they_are_a_dict(mode: dict[str, Any]) -> None:
    loader = MixNNDataLoader(Named(as_mapping=True), mlp(), batch_size=8, extras=True, **mode)
    for batch in loader:
        inputs, targets, others = cast(Any, batch)
        assert others["place"]["row"].tolist() == targets.indices.tolist()
        assert others["path"] == [f"{i}.png" for i in targets.indices.tolist()]
        MixNNLoss()(mlp()(inputs), batch).backward()


class Place(NamedTuple):
    """A named tuple, as datasets give them."""

    row: int
    file: str


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_in_tuples_and_lists_they_are_those_of_the_samples(batch_size: int) -> None:
    class Nested(Named):
        def __getitem__(self, index: int) -> Any:
            inputs, label = self.points[index]
            return inputs, label, (f"{index}.png", index), Place(index, str(index)), [{"row": index}, [index, (index,)]]

    loader: Any = MixNNDataLoader(Nested(), mlp(), batch_size=batch_size, warmup_epochs=0, extras=True)
    for _, targets, (paths, indices), place, (mapping, (row, (inner,))) in loader:
        expected = targets.indices.tolist()
        assert indices.tolist() == place.row.tolist() == mapping["row"].tolist() == expected
        assert row.tolist() == inner.tolist() == expected
        assert list(paths) == [f"{index}.png" for index in expected]
        assert list(place.file) == [str(index) for index in expected]


def test_a_list_of_vectors_as_long_as_it_is_one_of_samples() -> None:
    class Long(Named):
        def __getitem__(self, index: int) -> Any:
            return *self.points[index], torch.full((16,), index)

    def collate(samples: list[Any]) -> Any:
        inputs, labels, vectors = zip(*samples, strict=True)
        return torch.stack(inputs), torch.tensor(labels), list(vectors)

    loader: Any = MixNNDataLoader(Long(), mlp(), batch_size=8, collate_fn=collate, warmup_epochs=0, extras=True)
    for _, targets, vectors in loader:
        assert [vector.tolist() for vector in vectors] == [[index] * 16 for index in targets.indices.tolist()]


def test_unpack_tells_which_parts_they_are() -> None:
    class Turned(Named):
        def __getitem__(self, index: int) -> Any:
            inputs, label, path, _, _ = super().__getitem__(index)
            return index, inputs, path, label

    loader: Any = MixNNDataLoader(Turned(), mlp(), batch_size=8, unpack=(1, 3), extras=True)
    for _, targets, index, paths in loader:
        assert index.tolist() == targets.indices.tolist()
        assert list(paths) == [f"{i}.png" for i in index.tolist()]


def test_without_them_a_batch_is_a_pair() -> None:
    batch = next(iter(MixNNDataLoader(Named(), mlp(), batch_size=8)))
    assert len(batch) == 2
    assert batch.extras == ()
    more = type(batch)(*batch, "path")
    assert type(more)(part for part in more).extras == ("path",)
    assert "extras=('path',)" in repr(more)
    assert "extras" not in repr(batch)


def test_a_batch_with_another_part_keeps_them() -> None:
    batch: Any = next(iter(MixNNDataLoader(Named(), mlp(), batch_size=4, extras=True)))
    other = batch._replace(inputs=2 * batch.inputs)
    assert torch.equal(other.inputs, 2 * batch.inputs)
    assert other.targets is batch.targets
    assert len(other) == len(batch) == 5
    assert all(mine is theirs for mine, theirs in zip(other.extras, batch.extras, strict=True))
