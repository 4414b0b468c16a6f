"""What the per-sample state takes, and that it is said before it is taken."""

import logging
from typing import Any

import pytest
import torch
from toy import NUM_CLASSES, Points, mlp

from mixnn_loader import MixNNDataLoader
from mixnn_loader._utils import memory
from mixnn_loader._utils.memory import announce

WIDTH = 8  # of the representations of `toy.mlp`


def run(loader: MixNNDataLoader, epochs: int) -> MixNNDataLoader:
    for _ in range(epochs):
        for _batch in loader:
            pass
    return loader


def num_bytes(loader: MixNNDataLoader) -> int:
    """All that is kept between two epochs."""
    samples = loader.state_dict()["samples"]
    return sum(rows.numel() * rows.element_size() for rows in samples.values() if rows is not None)


def logged(caplog: pytest.LogCaptureFixture, what: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage().startswith(f"the {what} of")]


KEPT: list[Any] = [
    # arguments, M, bytes of a representation
    ({}, 1, 0),
    ({"num_neighbors": 4}, 4, 0),
    ({"num_neighbors": 0}, 0, 0),
    ({"num_neighbors": 2, "neighbor_pool": 7}, 7, 0),
    ({"num_neighbors": 3, "neighbors": "batch"}, 3, 0),
    ({"num_neighbors": 3, "neighbors": "random"}, 3, 0),
    ({"scan_every": 2}, 1, 0),
    ({"scan": "running"}, 1, 4 * WIDTH),
    ({"scan": "running", "representation_dtype": torch.float16}, 1, 2 * WIDTH),
    ({"scan": "running", "neighbor_pool": 5, "representation_dtype": torch.float64}, 5, 8 * WIDTH),
    ({"scan": "running", "scan_every": 2}, 1, 0),
    ({"scan": "running", "neighbors": "batch"}, 1, 0),
]


@pytest.mark.parametrize(("arguments", "pool", "representation"), KEPT)
@pytest.mark.parametrize("num_classes", [NUM_CLASSES, 11])
def test_bytes_a_sample(arguments: dict[str, Any], pool: int, representation: int, num_classes: int) -> None:
    model = mlp(num_classes=num_classes)
    loader = run(MixNNDataLoader(Points(), model, warmup_epochs=1, batch_size=8, **arguments), 3)
    assert num_bytes(loader) == 40 * (4 * (num_classes + 2 * pool + 8) + representation)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_bytes_of_targets_in_another_type(dtype: torch.dtype) -> None:
    loader = run(MixNNDataLoader(Points(), mlp(), batch_size=8, target_dtype=dtype), 1)
    assert num_bytes(loader) == 40 * (NUM_CLASSES * dtype.itemsize + 4 * (2 + 8))


@pytest.mark.parametrize(
    ("shape", "dtype", "level", "mebibytes"),
    [
        ((2**20, 256), torch.float32, logging.WARNING, "1,024.0"),
        ((2**20, 1000), torch.float32, logging.WARNING, "4,000.0"),
        ((2**20 - 1, 256), torch.float32, logging.INFO, "1,024.0"),
        ((2**20, 256), torch.float16, logging.INFO, "512.0"),
        ((40, 3), torch.float32, logging.INFO, "0.0"),
    ],
)
def test_from_one_gibibyte_on_it_is_a_warning(
    caplog: pytest.LogCaptureFixture, shape: tuple[int, int], dtype: torch.dtype, level: int, mebibytes: str
) -> None:
    with caplog.at_level(logging.INFO, logger="mixnn_loader"):
        announce("soft targets", shape, dtype, torch.device("cuda:1"), "target_dtype=")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("mixnn_loader", level)
    message = f"the soft targets of {shape[0]:,} samples take {mebibytes} MiB on cuda:1 ({shape[1]} x {dtype}); "
    assert record.getMessage() == message + "see target_dtype="


def test_what_cannot_be_allocated_has_been_announced(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError, match="memory"):
        MixNNDataLoader(Points(), mlp(), num_classes=2**50)
    (record,) = logged(caplog, "soft targets")
    assert (record.name, record.levelno) == ("mixnn_loader", logging.WARNING)
    assert f"{40 * 2**50 * 4 / 2**20:,.1f} MiB" in record.getMessage()
    assert "state_device= and target_dtype=" in record.getMessage()


@pytest.mark.parametrize("arguments", [{}, {"scan": "running"}, {"scan_every": 2}, {"num_classes": NUM_CLASSES}])
@pytest.mark.parametrize("large", [False, True])
def test_announced_once_a_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], large: bool
) -> None:
    if large:
        monkeypatch.setattr(memory, "LARGE_BYTES", 40 * NUM_CLASSES * 2)
    with caplog.at_level(logging.INFO, logger="mixnn_loader"):
        types: dict[str, Any] = {"target_dtype": torch.float16, "representation_dtype": torch.bfloat16}
        run(MixNNDataLoader(Points(), mlp(), warmup_epochs=1, batch_size=8, **types, **arguments), 4)
    (targets,), (representations,) = logged(caplog, "soft targets"), logged(caplog, "representations")
    assert {targets.levelno, representations.levelno} == {logging.WARNING if large else logging.INFO}
    assert "(3 x torch.float16); see state_device= and target_dtype=" in targets.getMessage()
    assert "(8 x torch.bfloat16); see representation_dtype=" in representations.getMessage()


@pytest.mark.parametrize("arguments", [{"neighbors": "batch"}, {"neighbors": "random"}, {"num_neighbors": 0}])
def test_representations_that_are_not_kept_are_not_announced(
    caplog: pytest.LogCaptureFixture, arguments: dict[str, Any]
) -> None:
    with caplog.at_level(logging.INFO, logger="mixnn_loader"):
        run(MixNNDataLoader(Points(), mlp(), warmup_epochs=0, batch_size=8, **arguments), 2)
    assert len(logged(caplog, "soft targets")) == 1
    assert logged(caplog, "representations") == []


def test_targets_to_be_kept_elsewhere_are_not_made_on_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    loader = MixNNDataLoader(Points(), mlp(), num_classes=2**50, state_device="meta")
    assert loader.soft_targets.is_meta
    (record,) = logged(caplog, "soft targets")
    assert "MiB on meta" in record.getMessage()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("arguments", "device"), [({}, "cuda"), ({"state_device": "cpu"}, "cpu")])
def test_targets_are_announced_where_they_will_be(
    caplog: pytest.LogCaptureFixture, arguments: dict[str, Any], device: str
) -> None:
    with caplog.at_level(logging.INFO, logger="mixnn_loader"):
        loader = run(MixNNDataLoader(Points(), mlp().cuda(), batch_size=8, **arguments), 1)
    (record,) = logged(caplog, "soft targets")
    assert loader.soft_targets.device.type == device
    assert f"MiB on {device}" in record.getMessage()
