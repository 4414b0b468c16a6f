"""What MixNNDataLoader does with epochs, state and the user's objects."""

import gc
import io
import multiprocessing
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler
from toy import Points, mlp
from tqdm.auto import tqdm

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNTargets

SETTINGS: dict[str, Any] = {"warmup_epochs": 1, "correction_epoch": 2, "batch_size": 8}


def run(loader: MixNNDataLoader, epochs: int = 1) -> list[MixNNBatch]:
    """Iterate and return the last epoch's batches."""
    batches: list[MixNNBatch] = []
    for _ in range(epochs):
        batches = list(loader)
    return batches


def test_phases_follow_one_another() -> None:
    loader = MixNNDataLoader(Points(), mlp(), **SETTINGS)
    run(loader, 4)
    assert [(record["epoch"], record["phase"]) for record in loader.history] == [
        (0, "warm-up"),
        (1, "mixing"),
        (2, "correction"),
        (3, "correction"),
    ]


def test_targets_move_from_the_correction_epoch_on() -> None:
    loader = MixNNDataLoader(Points(), mlp(), **SETTINGS)
    run(loader, 2)
    one_hot = nn.functional.one_hot(Points().labels, 3).float()
    assert torch.equal(loader.soft_targets, one_hot)
    run(loader)
    assert ((loader.soft_targets - one_hot).abs().sum(1) > 0).all()
    torch.testing.assert_close(loader.soft_targets.sum(1), torch.ones(40))


def test_both_forms_of_the_loop_give_the_same() -> None:
    by_batch = run(MixNNDataLoader(Points(), mlp(), **SETTINGS), 3)
    pairs: list[tuple[Tensor, MixNNTargets]] = []
    loader = MixNNDataLoader(Points(), mlp(), **SETTINGS)
    for _ in range(3):
        pairs = [(inputs.to("cpu"), targets.to("cpu")) for inputs, targets in loader]
    for batch, (inputs, targets) in zip(by_batch, pairs, strict=True):
        assert torch.equal(batch.inputs, inputs)
        assert torch.equal(batch.targets.mixed, targets.mixed)


def test_epoch_is_that_of_the_next_batch() -> None:
    loader = MixNNDataLoader(Points(), mlp(), **SETTINGS)
    assert loader.epoch == 0
    next(iter(loader))
    assert loader.epoch == 0
    batches = iter(loader)
    next(batches)
    assert loader.epoch == 0
    del batches
    run(loader)
    assert loader.epoch == 1
    loader.set_epoch(7)
    assert loader.epoch == 7
    run(loader)
    assert loader.epoch == 8
    assert loader.history[-1]["phase"] == "correction"


@pytest.mark.parametrize("epoch", [-1, 1.5, "2", True])
def test_an_epoch_out_of_range(epoch: Any) -> None:
    with pytest.raises(ValueError, match=r"epoch must be an integer >= 0"):
        MixNNDataLoader(Points(), mlp()).set_epoch(epoch)


def test_set_epoch_reaches_the_distributed_sampler() -> None:
    def order(epoch: int) -> list[int]:
        points = Points()
        sampler: DistributedSampler[Any] = DistributedSampler(points, num_replicas=2, rank=0, shuffle=True)
        loader = MixNNDataLoader(DataLoader(points, batch_size=8, sampler=sampler), mlp())
        loader.set_epoch(epoch)
        with pytest.warns(UserWarning, match="into 2 parts, and 1 processes train"):
            return torch.cat([batch.targets.indices for batch in loader]).tolist()

    def plain_order(epoch: int) -> list[int]:
        sampler: DistributedSampler[Any] = DistributedSampler(Points(), num_replicas=2, rank=0, shuffle=True)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(3) == plain_order(3) != order(4) == plain_order(4)


def test_public_attributes_are_forwarded_and_private_ones_are_not() -> None:
    sampler = RandomSampler(range(40))
    wrapped = DataLoader(Points(), batch_size=9, sampler=sampler, drop_last=True)
    loader = MixNNDataLoader(wrapped, mlp())
    assert loader.dataset is wrapped.dataset
    assert loader.sampler is sampler
    assert loader.batch_sampler is wrapped.batch_sampler
    assert loader.collate_fn is wrapped.collate_fn
    assert (loader.batch_size, loader.drop_last, loader.num_workers, len(loader)) == (9, True, 0, 4)
    for name in ("_dataset_kind", "_index_sampler", "no_such_thing"):
        with pytest.raises(AttributeError, match=name):
            getattr(loader, name)
    assert not isinstance(loader, DataLoader)


@pytest.mark.parametrize(("name", "value"), [("momentum", 0.5), ("seed", 3), ("extras", True), ("num_classes", 3)])
def test_the_hint_at_repr_is_given_where_repr_tells(name: str, value: Any) -> None:
    loader = MixNNDataLoader(Points(), mlp(), **{name: value})
    with pytest.raises(AttributeError) as error:
        getattr(loader, name)
    assert ("repr(loader) tells it" in str(error.value)) is (f"{name}={value}" in repr(loader))


@pytest.mark.parametrize(
    "name",
    ["epoch", "soft_targets", "clean_probability", "neighbor_indices", "losses", "given_labels"],
)
def test_state_is_read_only(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(MixNNDataLoader(Points(), mlp()), name, None)


def test_state_before_and_after_the_first_scan() -> None:
    loader = MixNNDataLoader(Points(), mlp(), num_neighbors=2, **SETTINGS)
    assert (loader.given_labels == -1).all()
    assert loader.losses.isnan().all()
    assert loader.clean_probability.isnan().all()
    assert (loader.neighbor_indices == -1).all()
    with pytest.raises(RuntimeError, match="pass num_classes="):
        _ = loader.soft_targets
    run(loader, 2)
    assert torch.equal(loader.given_labels, Points().labels)
    assert loader.neighbor_indices.shape == (40, 2)
    model = mlp().eval()
    expected = nn.functional.cross_entropy(model(Points().inputs), Points().labels, reduction="none")
    torch.testing.assert_close(loader.losses, expected.detach())
    assert ((loader.clean_probability >= 0) & (loader.clean_probability <= 1)).all()


def test_soft_targets_are_there_at_once_with_num_classes() -> None:
    assert MixNNDataLoader(Points(), mlp(), num_classes=3).soft_targets.shape == (40, 3)


def test_history_says_what_was_measured() -> None:
    loader = MixNNDataLoader(Points(), mlp(), num_neighbors=2, search="exact", **SETTINGS)
    batches = run(loader, 2)
    warm_up, mixing = loader.history
    assert warm_up["noise_rate"] is None
    assert warm_up["same_label_share"] is None
    assert mixing["noise_rate"] == pytest.approx(1 - loader.clean_probability.mean().item(), abs=1e-6)
    assert mixing["search"] == "ExactSearch"
    assert len(mixing["means"]) == len(mixing["variances"]) == len(mixing["priors"]) == 2
    assert mixing["means"][0] < mixing["means"][1]
    assert all(mixing[f"{part}_seconds"] > 0 for part in ("scan", "mixture", "search", "batches"))
    labels = Points().labels
    same = [labels[b.targets.neighbors] == labels[b.targets.indices].unsqueeze(1) for b in batches]
    assert mixing["same_label_share"] == pytest.approx(torch.cat(same).float().mean().item())


def test_history_of_an_epoch_left_early() -> None:
    loader = MixNNDataLoader(Points(), mlp(), **SETTINGS)
    for number, _ in enumerate(loader):
        if number == 1:
            break
    gc.collect()
    assert loader.history[0]["batches_seconds"] > 0


@pytest.mark.parametrize("neighbors", ["dataset", "random"])
def test_the_pool_is_drawn_from_afresh(neighbors: Any) -> None:
    settings: dict[str, Any] = {"neighbor_pool": 6} if neighbors == "dataset" else {}
    loader = MixNNDataLoader(Points(), mlp(), num_neighbors=2, neighbors=neighbors, **SETTINGS, **settings)
    draws = []
    for _ in range(4):
        batches = run(loader)
        draws.append(
            {
                int(i): set(n.tolist())
                for b in batches
                for i, n in zip(b.targets.indices, b.targets.neighbors, strict=True)
            }
        )
    if neighbors == "dataset":
        nearest = MixNNDataLoader(Points(), mlp(), num_neighbors=6, search="exact", **SETTINGS)
        run(nearest, 2)
        pool = nearest.neighbor_indices
        assert all(draw[i] <= set(pool[i].tolist()) for draw in draws[1:] for i in range(40))
        assert torch.equal(loader.neighbor_indices, pool[:, :2])
    assert all(len(draw[i]) == 2 and i not in draw[i] for draw in draws[1:] for i in range(40))
    assert draws[1] != draws[2] != draws[3]


def test_a_seed_gives_the_same_draws_and_another_gives_others() -> None:
    def drawn(seed: int) -> Tensor:
        loader = MixNNDataLoader(Points(), mlp(), neighbors="random", weighting="beta", seed=seed, **SETTINGS)
        return torch.cat([torch.cat([b.targets.neighbors, b.targets.weights], dim=1) for b in run(loader, 2)])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def resumable(seed: int = 0) -> tuple[MixNNDataLoader, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    return MixNNDataLoader(
        Points(), mlp(), neighbor_pool=5, shuffle=True, generator=generator, search="exact", **SETTINGS
    ), generator


def test_numpy_numbers_are_numbers() -> None:
    numbers: dict[str, Any] = {"num_neighbors": np.int64(2), "momentum": np.float32(0.5), "seed": np.int64(3)}
    loader = MixNNDataLoader(Points(), mlp(), **numbers, **SETTINGS)
    assert run(loader, 3)[0].targets.neighbors.shape == (8, 2)
    assert type(loader.state_dict()["num_neighbors"]) is int


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(stop: int) -> None:
    unstopped, _ = resumable()
    expected = [run(unstopped) for _ in range(5)][stop:]

    first, _ = resumable()
    run(first, stop)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second, _ = resumable(seed=99)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(second.soft_targets, first.soft_targets)
    for batches in expected:
        for batch, resumed in zip(batches, run(second), strict=True):
            assert torch.equal(batch.targets.indices, resumed.targets.indices)
            assert torch.equal(batch.targets.neighbors, resumed.targets.neighbors)
            assert torch.equal(batch.targets.weights, resumed.targets.weights)
            assert torch.equal(batch.targets.soft_targets, resumed.targets.soft_targets)
            assert torch.equal(batch.inputs, resumed.inputs)
    assert [record["epoch"] for record in second.history] == list(range(5))


def test_a_generator_that_is_missing_is_warned_of() -> None:
    loader, _ = resumable()
    run(loader)
    other = MixNNDataLoader(Points(), mlp(), neighbor_pool=5, shuffle=True, **SETTINGS)
    with pytest.warns(UserWarning, match="generators for loader, sampler, inner_sampler, this loader has none"):
        other.load_state_dict(loader.state_dict())


def test_loading_ends_the_epoch_that_runs() -> None:
    loader, _ = resumable()
    run(loader, 2)
    state = loader.state_dict()
    batches = iter(loader)
    next(batches)
    loader.load_state_dict(state)
    assert loader.state_dict()["epoch"] == 2
    with pytest.raises(RuntimeError, match="is over"):
        next(batches)


def test_a_start_that_fails_does_not_count() -> None:
    points = Points()
    loader = MixNNDataLoader(points, mlp(), **SETTINGS)
    run(loader)
    healthy = points.inputs
    points.inputs = torch.full_like(healthy, torch.nan)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="diverged"):
            run(loader)
    points.inputs = healthy
    run(loader)
    assert loader.epoch == 2
    assert [record["epoch"] for record in loader.history] == [0, 1]


def test_a_state_is_a_copy() -> None:
    loader = MixNNDataLoader(Points(), mlp(), **SETTINGS)
    run(loader, 3)
    state = loader.state_dict()
    before = state["samples"]["soft_targets"].clone()
    run(loader)
    assert torch.equal(state["samples"]["soft_targets"], before)
    assert len(state["history"]) == 3


def test_the_state_says_where_it_was_saved() -> None:
    loader = MixNNDataLoader(Points(), mlp(), **SETTINGS)
    batches = iter(loader)
    places = []
    for _ in range(5):
        next(batches)
        state = loader.state_dict()
        places.append((state["epoch"], state["batch"], loader.batch))
    assert places == [*((0, number, number) for number in range(1, 5)), (1, 0, 0)]
    assert next(batches, None) is None
    state = loader.state_dict()
    assert (state["epoch"], state["batch"], loader.batch) == (1, 0, 0)


def test_a_progress_bar_that_asks_for_the_iterator_twice_gets_one_epoch() -> None:
    loader = MixNNDataLoader(Points(), mlp(), **SETTINGS)
    for _ in range(3):
        assert len(list(tqdm(loader, disable=True))) == 5
    assert [record["epoch"] for record in loader.history] == [0, 1, 2]


@pytest.mark.parametrize("workers", [{}, {"num_workers": 1, "persistent_workers": True}])
def test_one_epoch_at_a_time(workers: dict[str, Any]) -> None:
    loader = MixNNDataLoader(Points(), mlp(), **SETTINGS, **workers)
    first = iter(loader)
    next(first)
    second = iter(loader)
    next(second)
    with pytest.raises(RuntimeError, match="epoch 0 is over: another was started"):
        next(first)
    assert len(list(second)) == 4
    assert [record["epoch"] for record in loader.history] == [0]
    assert loader.state_dict()["epoch"] == 1


def test_the_datasets_tensors_are_not_written_to() -> None:
    points = Points()
    before = points.inputs.clone()

    def views(samples: list[Any]) -> Any:
        rows = [int((points.inputs == x).all(1).nonzero()[0]) for x, _ in samples]
        whole = points.inputs if rows == list(range(40)) else points.inputs[rows]
        return whole, torch.tensor([y for _, y in samples])

    for batch in run(MixNNDataLoader(points, mlp(), batch_size=40, warmup_epochs=0, collate_fn=views)):
        batch.inputs.zero_()
    assert torch.equal(points.inputs, before)


def test_a_scan_dataset_is_used_for_the_scan_only() -> None:
    noisy, clean = Points(), Points()
    noisy.inputs = noisy.inputs + 1
    loader = MixNNDataLoader(noisy, mlp(), scan_dataset=clean, num_neighbors=0, **SETTINGS)
    batches = run(loader, 2)
    expected = nn.functional.cross_entropy(mlp().eval()(clean.inputs), clean.labels, reduction="none")
    torch.testing.assert_close(loader.losses, expected.detach())
    torch.testing.assert_close(torch.cat([batch.inputs for batch in batches]), noisy.inputs)


def test_the_model_may_move_after_the_loader_is_built() -> None:
    model = mlp()
    loader = MixNNDataLoader(Points(), model, **SETTINGS)
    model.double()
    loader.dataset.inputs = loader.dataset.inputs.double()
    assert run(loader, 3)[0].inputs.dtype == torch.float64


@pytest.mark.parametrize("workers", [{}, {"num_workers": 1}, {"num_workers": 1, "persistent_workers": True}], ids=str)
@pytest.mark.parametrize("steps", [2, 99])
def test_nothing_is_kept_alive(steps: int, workers: dict[str, Any]) -> None:
    """Nor does it need the garbage collector, by which PyTorch's workers take five seconds to end."""
    run(MixNNDataLoader(Points(), mlp(), **SETTINGS), 3)  # what is imported now may leave circles of its own
    gc.collect()
    gc.disable()
    try:
        model, points = mlp(), Points()
        loader = MixNNDataLoader(points, model, **workers, **SETTINGS)
        run(loader, 2)
        for _ in zip(range(steps), loader, strict=False):
            pass
        references = [weakref.ref(thing) for thing in (model, points, loader)]
        del model, points, loader
        assert [reference() for reference in references] == [None, None, None]
        assert multiprocessing.active_children() == []
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("num_neighbors", -1, "num_neighbors must be an integer >= 0, got -1"),
        ("num_neighbors", 1.5, "num_neighbors must be an integer >= 0, got 1.5"),
        ("num_neighbors", True, "num_neighbors must be an integer >= 0, got True"),
        ("momentum", "high", r"momentum must be a number in \[0, 1\], got 'high'"),
        ("momentum", 1.2, r"momentum must be a number in \[0, 1\], got 1.2"),
        ("neighbors", "epoch", "neighbors must be one of 'dataset', 'batch', 'random', 'random-batch', got 'epoch'"),
        (
            "weighting",
            "posterior",
            "weighting must be one of 'mixture', 'doubt', 'uniform', 'beta', 'mixup', 'doubt-mixup', got 'posterior'",
        ),
        ("search", "faiss", 'search must be "auto", "exact", .*"hnsw" or an object.*got \'faiss\''),
        ("device", "gpu", "device must be None or a torch device such as 'cuda:0', got 'gpu'"),
        ("autocast_dtype", "bf16", "autocast_dtype must be None or a floating-point torch.dtype, got 'bf16'"),
        ("num_classes", 0, "num_classes must be None or an integer >= 1, got 0"),
        ("autocast_dtype", torch.int8, r"autocast_dtype must be None or a floating-point torch.dtype, got torch.int8"),
        ("scan", "once", "scan must be one of 'epoch', 'running', 'training', got 'once'"),
        ("scan_every", 0, "scan_every must be None or an integer >= 1, got 0"),
        ("scan_every", "2", "scan_every must be None or an integer >= 1, got '2'"),
        ("state_device", "gpu", "state_device must be None or a torch device such as 'cuda:0', got 'gpu'"),
        ("state_device", torch.float32, "state_device must be None or a torch device .*, got torch.float32"),
        ("target_dtype", "float16", "target_dtype must be a floating-point torch.dtype .*, got 'float16'"),
        ("target_dtype", None, "target_dtype must be a floating-point torch.dtype .*, got None"),
        ("target_dtype", torch.int64, "target_dtype must be a floating-point torch.dtype .*, got torch.int64"),
        (
            "representation_dtype",
            torch.float8_e4m3fn,
            "representation_dtype must be .* of 16 bits or more, got torch.flo",
        ),
        ("representation_dtype", torch.uint8, "representation_dtype must be a floating-point .*, got torch.uint8"),
        ("representation_dtype", float, "representation_dtype must be a floating-point .*, got <class 'float'>"),
    ],
)
def test_an_argument_out_of_range_is_told_at_once(argument: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixNNDataLoader(Points(), mlp(), **{argument: value})


def test_a_loader_lives_as_long_as_its_pass_and_no_longer() -> None:
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8)
    alive, batches = weakref.ref(loader), iter(loader)
    next(batches)
    del loader
    assert alive() is not None
    del batches
    assert alive() is None
