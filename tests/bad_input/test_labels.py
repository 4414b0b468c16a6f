"""Samples and labels that cannot be used, or change."""

from typing import Any

import numpy as np
import pytest
import torch
from bad_input.hostile import run, tensors
from torch.utils.data import TensorDataset
from toy import NUM_FEATURES, Points, Samples, mlp

from mixnn_loader import MixNNDataLoader


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
        (-1, r"label -1 at dataset index 7 must be in 0\.\.2, .*; .*leave samples without a label out"),
        (3, r"label 3 at dataset index 7 must be in 0\.\.2, the model's output width; .*give the model C outputs"),
    ],
)
def test_a_label_out_of_range(label: int, message: str, warmup_epochs: int) -> None:
    samples = Samples([(x, label if i == 7 else int(y)) for i, (x, y) in enumerate(zip(*tensors(), strict=True))])
    with pytest.raises(ValueError, match=message):
        run(MixNNDataLoader(samples, mlp(), batch_size=4, warmup_epochs=warmup_epochs))


@pytest.mark.parametrize("warmup_epochs", [0, 1])
@pytest.mark.parametrize(
    ("labels", "got", "remedy"),
    [
        ([0.0, 1.0, 2.0], r"torch\.float64, such as \d\.0", r"int\(label\) .* torch\.unique"),
        ([0.5, 1.5, 2.5], r"torch\.float64, such as \d\.5", r"continuous targets, .* torch\.unique"),
        (
            ["cat", "dog", "cow"],
            "(list|tuple) of str, such as '(cat|dog|cow)'",
            r"numpy\.unique\(labels, return_inverse=True\)",
        ),
        ([False, True, True], r"torch\.bool, such as (False|True)", r"return int\(label\) from the dataset"),
        (
            [torch.tensor(label) for label in (False, True, True)],
            r"torch\.bool, such as (False|True)",
            r"return int\(label\)",
        ),
    ],
)
def test_labels_of_another_type(labels: list[Any], got: str, remedy: str, warmup_epochs: int) -> None:
    samples = Samples([(x, labels[i % 3]) for i, x in enumerate(tensors()[0])])
    # The scan, which comes first without warm-up, takes them in an order of its own.
    message = rf"labels must be integer class indices, got {got}.*\(first at dataset index \d\); .*{remedy}"
    with pytest.raises(ValueError, match=message):
        run(MixNNDataLoader(samples, mlp(), batch_size=4, warmup_epochs=warmup_epochs))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_one_hot_labels(dtype: torch.dtype) -> None:
    samples = Samples([(x, torch.eye(3, dtype=dtype)[y]) for x, y in zip(*tensors(), strict=True)])
    with pytest.raises(ValueError, match=r"one class index a sample, shape \(4,\), got \(4, 3\) .* use their argmax"):
        run(MixNNDataLoader(samples, mlp(), batch_size=4))


def test_labels_in_a_column() -> None:
    inputs, labels = tensors()
    column = TensorDataset(inputs, labels[:, None])
    with pytest.raises(ValueError, match=r"\(4,\), got \(4, 1\) .*; drop the last dimension, label\.squeeze\(-1\)"):
        run(MixNNDataLoader(column, mlp(), batch_size=4))
    dropped = [(x, label.squeeze(-1)) for x, label in zip(*column.tensors, strict=True)]
    run(loader := MixNNDataLoader(Samples(dropped), mlp(), batch_size=4))
    assert torch.equal(loader.given_labels, labels)


def test_names_encoded_as_the_message_says() -> None:
    inputs, labels = tensors()
    names = np.array(["cat", "dog", "emu"])[labels.numpy()]
    encoded = np.unique(names, return_inverse=True)[1]
    loader = MixNNDataLoader(Samples(list(zip(inputs, encoded, strict=True))), mlp(), batch_size=4)
    run(loader)
    assert torch.equal(loader.given_labels, labels)


def test_a_label_changes() -> None:
    points = Points()
    loader = MixNNDataLoader(points, mlp(), batch_size=8, warmup_epochs=1)
    run(loader)
    points.labels[11] = (points.labels[11] + 1) % 3
    with pytest.raises(ValueError, match=r"label of dataset index 11 was 2 and is now 0; a sample's label must stay"):
        run(loader)


def test_a_scan_dataset_in_another_order() -> None:
    points, reordered = Points(), Points()
    reordered.labels = reordered.labels.flip(0)
    loader = MixNNDataLoader(points, mlp(), batch_size=8, warmup_epochs=1, scan_dataset=reordered)
    with pytest.raises(ValueError, match="scan_dataset must hold the same samples in the same order"):
        run(loader, epochs=2)
