"""Bad input, one test a row: what is wrong, where, and what to do."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from toy import MLP, NUM_FEATURES, Points, Samples, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss
from mixnn_loader.neighbors import HNSWSearch


class Poisoned(MLP):
    """Gives NaN, or an infinity, for the inputs whose first feature is above a threshold."""

    def __init__(self, threshold: float, poison: float) -> None:
        super().__init__()
        self.threshold, self.poison = threshold, poison

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, num_features) -> (B, num_classes)."""
        factor = torch.where(inputs[:, :1] > self.threshold, self.poison, 1.0)
        logits: Tensor = self.head(self.body(inputs) * factor)
        return logits


class Constant(nn.Module):
    """Predicts by the first feature alone, from a table of logits."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.identity = nn.Linear(NUM_FEATURES, 3)
        self.table = table

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, num_features) -> (B, 3)."""
        logits: Tensor = self.table[inputs[:, 0].long()] + 0 * self.identity(inputs)
        return logits


def run(loader: MixNNDataLoader, epochs: int = 1) -> None:
    for _ in range(epochs):
        for _ in loader:
            pass


@pytest.mark.parametrize("samples", [[torch.zeros(NUM_FEATURES)] * 9, [(torch.zeros(NUM_FEATURES),)] * 9, [1.5] * 9])
def test_samples_without_labels(samples: list[Any]) -> None:
    with pytest.raises(TypeError, match=r"samples must be \(inputs, label, \.\.\.\).*unpack="):
        run(MixNNDataLoader(Samples(samples), mlp(), batch_size=4))


def test_mappings_without_unpack() -> None:
    samples = Samples([{"pixels": torch.zeros(NUM_FEATURES), "label": 0}] * 9)
    with pytest.raises(TypeError, match=r"keys \['pixels', 'label'\]; pass unpack="):
        run(MixNNDataLoader(samples, mlp(), batch_size=4))


@pytest.mark.parametrize("warmup_epochs", [0, 1])
@pytest.mark.parametrize(
    ("label", "message"),
    [
        (-1, r"label -1 at dataset index 7 must be in 0\.\.2"),
        (3, r"label 3 at dataset index 7 must be in 0\.\.2, the model's output width"),
    ],
)
def test_a_label_out_of_range(label: int, message: str, warmup_epochs: int) -> None:
    samples = Samples([(x, label if i == 7 else int(y)) for i, (x, y) in enumerate(zip(*tensors(), strict=True))])
    with pytest.raises(ValueError, match=message):
        run(MixNNDataLoader(samples, mlp(), batch_size=4, warmup_epochs=warmup_epochs))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0, 1.0, 2.0], "integer class indices, got torch.float"),
        (["cat", "dog", "cow"], r"integer class indices, got (list|tuple)"),
        ([torch.eye(3, dtype=torch.int64)[i] for i in range(3)], r"one class index a sample.*argmax"),
    ],
)
def test_labels_of_another_kind(labels: list[Any], message: str) -> None:
    samples = Samples([(x, labels[y]) for x, y in zip(*tensors(), strict=True)])
    with pytest.raises(ValueError, match=f"{message}.*dataset index 0" if "argmax" not in message else message):
        run(MixNNDataLoader(samples, mlp(), batch_size=4))


@pytest.mark.parametrize("neighbors", ["dataset", "batch", "random", "random-batch"])
def test_too_few_samples(neighbors: Any) -> None:
    with pytest.raises(
        ValueError, match=r"num_neighbors must be smaller than the number of training samples \(4\), got 4"
    ):
        MixNNDataLoader(Points(4), mlp(), num_neighbors=4, neighbors=neighbors)


def test_too_few_samples_for_the_pool() -> None:
    with pytest.raises(ValueError, match=r"neighbor_pool must be smaller than the number of training samples \(40\)"):
        MixNNDataLoader(Points(), mlp(), neighbor_pool=40)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("neighbors", ["dataset", "random"])
def test_some_samples_diverge(poison: float, neighbors: Any) -> None:
    points = Points()
    threshold = points.inputs[:, 0].sort().values[-4].item()
    poisoned = points.inputs[:, 0] > threshold
    loader = MixNNDataLoader(
        points, Poisoned(threshold, poison), warmup_epochs=0, num_neighbors=2, neighbors=neighbors, batch_size=40
    )
    with pytest.warns(RuntimeWarning, match="3 of 40 samples have a NaN or infinite loss or representation") as caught:
        (batch,) = list(loader)
    assert [warning.category for warning in caught].count(RuntimeWarning) == 1
    assert (loader.clean_probability[poisoned] == 0).all()
    assert torch.equal(batch.targets.neighbors[poisoned], poisoned.nonzero().expand(-1, 2))
    healthy = batch.targets.neighbors[~poisoned]
    assert not poisoned[healthy].any()
    assert torch.isfinite(batch.targets.weights).all()


@pytest.mark.parametrize("neighbors", ["dataset", "batch", "random", "random-batch"])
@pytest.mark.parametrize("num_healthy", [1, 2])
def test_nearly_all_samples_diverge(neighbors: Any, num_healthy: int) -> None:
    points = Points()
    threshold = points.inputs[:, 0].sort().values[num_healthy - 1].item()
    loader = MixNNDataLoader(
        points,
        Poisoned(threshold, float("nan")),
        warmup_epochs=0,
        correction_epoch=None,
        num_neighbors=2,
        neighbors=neighbors,
        batch_size=40,
    )
    with pytest.warns(RuntimeWarning):
        (batch,) = list(loader)
    assert batch.targets.neighbors.shape == (40, 2)
    torch.testing.assert_close(batch.targets.weights.sum(1), torch.ones(40))


@pytest.mark.parametrize("neighbors", ["dataset", "batch", "random", "random-batch"])
def test_all_samples_diverge(neighbors: Any) -> None:
    loader = MixNNDataLoader(Points(), Poisoned(-1e9, float("nan")), warmup_epochs=0, batch_size=8, neighbors=neighbors)
    with pytest.raises(RuntimeError, match="has diverged"):
        run(loader)


@pytest.mark.parametrize(
    ("table", "label_of"),
    [
        pytest.param(torch.zeros(2, 3), lambda i: i % 3, id="every loss the same"),
        pytest.param(torch.tensor([[9.0, 0, 0], [0.0, 9, 0]]), lambda _: 0, id="two distinct losses"),
        pytest.param(torch.tensor([[1e4, 0, 0], [0.0, 0, 0]]), lambda i: 0 if i < 28 else i % 3, id="70 % zeros"),
    ],
)
def test_degenerate_losses(table: Tensor, label_of: Callable[[int], int]) -> None:
    inputs = torch.randn(40, NUM_FEATURES)
    inputs[:, 0] = (torch.arange(40) >= 28).float()
    samples = Samples([(x, label_of(i)) for i, x in enumerate(inputs)])
    loader = MixNNDataLoader(samples, Constant(table), warmup_epochs=0, batch_size=8)
    with pytest.warns(RuntimeWarning) as caught:
        batches = list(loader)
    assert [warning.category for warning in caught].count(RuntimeWarning) == 1
    posterior = loader.clean_probability
    assert ((posterior >= 0) & (posterior <= 1)).all()
    assert (posterior[:28].min() >= posterior[28:].max()) or (posterior == posterior[0]).all()
    for batch in batches:
        torch.testing.assert_close(batch.targets.weights.sum(1), torch.ones(8))


@pytest.mark.parametrize("search", ["exact", "hnsw"])
def test_duplicates_are_neighbors_but_never_oneself(search: str) -> None:
    inputs = torch.randn(10, NUM_FEATURES).repeat(4, 1)
    loader = MixNNDataLoader(
        Samples([(x, i % 3) for i, x in enumerate(inputs)]),
        mlp(),
        warmup_epochs=0,
        num_neighbors=3,
        batch_size=40,
        search=search,
    )
    run(loader)
    for row, neighbors in enumerate(loader.neighbor_indices.tolist()):
        assert sorted(neighbors) == sorted({row % 10 + 10 * copy for copy in range(4)} - {row})


class ShortAnswers:
    """A backend that finds one neighbor in even rows, and only the row itself in odd ones."""

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Tensor:
        """Answer as no backend should."""
        del k, queries
        distances = torch.cdist(representations.double(), representations.double())
        distances.fill_diagonal_(torch.inf)
        found = distances.argmin(dim=1, keepdim=True)
        found[1::2, 0] = torch.arange(len(found))[1::2]
        return torch.cat([found, torch.full_like(found, -1)], dim=1)


def test_a_backend_with_short_rows_is_completed() -> None:
    settings: dict[str, Any] = {"warmup_epochs": 0, "num_neighbors": 3, "batch_size": 40}
    short = MixNNDataLoader(Points(), mlp(), search=ShortAnswers(), **settings)
    exact = MixNNDataLoader(Points(), mlp(), search="exact", **settings)
    run(short)
    run(exact)
    assert torch.equal(short.neighbor_indices, exact.neighbor_indices)


def test_the_dataset_changes_its_length() -> None:
    points = Points()
    loader = MixNNDataLoader(points, mlp(), batch_size=8, warmup_epochs=1)
    run(loader)
    points.inputs, points.labels = points.inputs[:30], points.labels[:30]
    with pytest.raises(RuntimeError, match="had 40 samples and now has 30"):
        run(loader)


def test_a_label_changes() -> None:
    points = Points()
    loader = MixNNDataLoader(points, mlp(), batch_size=8, warmup_epochs=1)
    run(loader)
    points.labels[11] = (points.labels[11] + 1) % 3
    with pytest.raises(ValueError, match=r"label of dataset index 11 was . and is now ."):
        run(loader)


def test_a_scan_dataset_in_another_order() -> None:
    points, reordered = Points(), Points()
    reordered.labels = reordered.labels.flip(0)
    loader = MixNNDataLoader(points, mlp(), batch_size=8, warmup_epochs=1, scan_dataset=reordered)
    with pytest.raises(ValueError, match="scan_dataset must hold the same samples in the same order"):
        run(loader, epochs=2)


def test_a_scan_dataset_of_another_length() -> None:
    with pytest.raises(ValueError, match=r"scan_dataset must have the dataset's 40 samples, got 30"):
        MixNNDataLoader(Points(), mlp(), scan_dataset=Points(30))


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
    wider = MixNNDataLoader(Points(), mlp(num_classes=5), batch_size=8, warmup_epochs=5)
    wider.load_state_dict(loader.state_dict())
    with pytest.raises(ValueError, match="output is 5 wide, the soft targets are over 3 classes"):
        run(wider)


def test_the_state_of_another_version() -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8)
    with pytest.raises(ValueError, match="state is of version 99"):
        loader.load_state_dict({**loader.state_dict(), "version": 99})


def test_logits_of_another_shape_or_device() -> None:
    batch = next(iter(MixNNDataLoader(Points(), mlp(), batch_size=8)))
    for shape in ((8, 4), (7, 3), (8,), (8, 3, 1)):
        with pytest.raises(ValueError, match=rf"got logits \({', '.join(map(str, shape))},?\) and targets \(8, 3\)"):
            MixNNLoss()(torch.zeros(shape), batch)
    with pytest.raises(ValueError, match="logits are on meta and targets on cpu"):
        MixNNLoss()(torch.zeros(8, 3, device="meta"), batch)


@pytest.mark.parametrize("inputs", [torch.zeros(4, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)])
def test_integer_inputs(inputs: Tensor) -> None:
    samples = Samples([(inputs, i % 3) for i in range(9)])
    with pytest.raises(TypeError, match=f"floating-point tensors to be mixed, got {inputs.dtype}.*num_neighbors=0"):
        run(MixNNDataLoader(samples, mlp(), batch_size=4))


def test_inputs_that_are_not_tensors() -> None:
    samples = Samples([({"x": torch.zeros(NUM_FEATURES), "name": "a"}, i % 3) for i in range(9)])
    with pytest.raises(TypeError, match=r"got a str among them; pass unpack="):
        run(MixNNDataLoader(samples, mlp(), batch_size=4))


def test_a_collate_function_that_drops_samples() -> None:
    def drop_one(samples: list[Any]) -> Any:
        return torch.stack([x for x, _ in samples[1:]]), torch.tensor([y for _, y in samples[1:]])

    with pytest.raises(ValueError, match=r"a row for each of its 8 samples.*collate_fn must keep every sample"):
        run(MixNNDataLoader(Points(), mlp(), batch_size=8, collate_fn=drop_one))


def test_a_sampler_without_integers() -> None:
    class Names(list[str]):
        pass

    with pytest.raises(TypeError, match="sampler must yield integer dataset indices, got 'a'"):
        run(MixNNDataLoader(DataLoader(Points(), sampler=Names("ab")), mlp()))


def test_the_wrong_number_of_classes() -> None:
    with pytest.raises(ValueError, match=r"output is 3 wide, the soft targets are over 7 classes.*num_classes"):
        run(MixNNDataLoader(Points(), mlp(), batch_size=8, num_classes=7))


def test_a_model_without_a_linear_layer_is_told_on_the_first_batch() -> None:
    class Sum(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs[:, :3] + inputs[:, 3:]

    with pytest.raises(ValueError, match="pass feature_layer="):
        next(iter(MixNNDataLoader(Points(), Sum(), batch_size=8)))
    run(MixNNDataLoader(Points(), Sum(), batch_size=8, neighbors="random", warmup_epochs=1), epochs=2)
    run(MixNNDataLoader(Points(), Sum(), batch_size=8, neighbors="random-batch", warmup_epochs=1), epochs=2)


@pytest.mark.parametrize(
    ("package", "use", "command"),
    [
        ("nmslib", HNSWSearch, "python -m pip install nmslib"),
    ],
)
def test_a_missing_package(package: str, use: Callable[[], Any], command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=command):
        use()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_crash_while_loading(num_workers: int) -> None:
    class Breaks(Points):
        def __getitem__(self, index: int) -> Any:
            if index == 20:
                raise OSError("the disk is gone")
            return super().__getitem__(index)

    loader = MixNNDataLoader(Breaks(), mlp(), batch_size=8, num_workers=num_workers)
    batches = iter(loader)
    seen = torch.cat([next(batches).targets.indices, next(batches).targets.indices])
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert (loader.given_labels >= 0).nonzero().flatten().tolist() == seen.tolist() == list(range(16))


def tensors() -> tuple[Tensor, Tensor]:
    """Return the toy points and their labels."""
    points = Points()
    return points.inputs, points.labels


def test_arguments_in_the_wrong_order() -> None:
    model: Any = DataLoader(Points())
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got DataLoader"):
        MixNNDataLoader(Points(), model)


@pytest.mark.parametrize("scan_dataset", [3, iter([])])
def test_a_scan_dataset_that_is_none(scan_dataset: Any) -> None:
    with pytest.raises(TypeError, match="scan_dataset must be a dataset, got"):
        MixNNDataLoader(Points(), mlp(), scan_dataset=scan_dataset)


def test_a_prediction_that_is_not_finite_leaves_the_target() -> None:
    points = Points()
    model = Poisoned(1e9, float("nan"))
    loader = MixNNDataLoader(points, model, warmup_epochs=0, correction_epoch=0, batch_size=20)
    batches = iter(loader)
    next(batches)
    before = loader.soft_targets.clone()
    model.threshold = points.inputs[20:, 0].median().item()
    bad = points.inputs[20:, 0] > model.threshold
    batch = next(batches)
    assert torch.equal(loader.soft_targets[20:][bad], before[20:][bad])
    assert (loader.soft_targets[20:][~bad] != before[20:][~bad]).any(1).all()
    assert batch.targets.mixed.isfinite().all()


def test_a_model_that_works_in_place_on_its_input() -> None:
    class InPlace(MLP):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs.sub_(1))

    points = Points()
    before = points.inputs.clone()

    def views(samples: list[Any]) -> Any:
        return points.inputs[:8] if len(samples) == 8 else points.inputs, torch.tensor([y for _, y in samples])

    loader = MixNNDataLoader(
        points, InPlace(), batch_size=40, warmup_epochs=0, correction_epoch=0, num_neighbors=0, collate_fn=views
    )
    for batch in loader:
        torch.testing.assert_close(batch.inputs, before)
    assert torch.equal(points.inputs, before)

    model = InPlace()
    model.load_state_dict(mlp().state_dict())
    twin = MixNNDataLoader(Points(), model, batch_size=8, warmup_epochs=0)
    run(twin)
    shifted = nn.functional.cross_entropy(mlp().eval()(before - 1), points.labels, reduction="none")
    torch.testing.assert_close(twin.losses, shifted.detach())
