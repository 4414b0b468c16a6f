"""What a batch holds for labels -> class indices."""

from typing import Any

import numpy as np
import pytest
import torch

from mixnn_loader.data.labels import class_labels

INDICES = torch.tensor([30, 10, 20])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.uint16, torch.uint32, torch.uint64])
@pytest.mark.parametrize("num_classes", [None, 3])
def test_class_indices_come_as_int64(dtype: torch.dtype, num_classes: int | None) -> None:
    labels = class_labels(torch.tensor([2, 0, 1], dtype=dtype), INDICES, num_classes)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    "labels", [[2, 0, 1], (2, 0, 1), np.array([2, 0, 1], dtype=np.uint16), list(torch.tensor([2, 0, 1]))]
)
def test_integers_in_other_containers_are_class_indices(labels: Any) -> None:
    assert class_labels(labels, INDICES, 3).tolist() == [2, 0, 1]


@pytest.mark.parametrize("labels", [[], (), np.array([]), torch.zeros(0), torch.zeros(0, dtype=torch.int64)])
def test_an_empty_batch_has_no_labels(labels: Any) -> None:
    checked = class_labels(labels, INDICES[:0], 3)
    assert (checked.dtype, checked.shape) == (torch.int64, (0,))


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        (torch.tensor([0, -1, -2]), 3, "label -1 at dataset index 10 must be in 0..2, the model's output width"),
        (torch.tensor([0, 2, 3]), 3, "label 3 at dataset index 20 must be in 0..2, the model's output width"),
        (torch.tensor([9, -1, 3]), 3, "label 9 at dataset index 30 must be in 0..2, the model's output width"),
        (torch.tensor([0, -1, 9]), None, "label -1 at dataset index 10 must be >= 0"),
        (torch.zeros(3), 3, r"integer class indices, got torch.float32, such as 0.0 \(first at dataset index 30\)"),
        (torch.zeros(3, dtype=torch.complex64), 3, r"got torch.complex64, such as 0j \(first at dataset index 30\)"),
        (["cat", "dog", "cat"], 3, r"got list of str, such as 'cat' \(first at dataset index 30\); .*numpy.unique"),
        (
            np.array(["b", "a", "b"]),
            3,
            r"got ndarray of str_, such as .*'b'.* \(first at dataset index 30\); .*numpy.uniq",
        ),
        ([0.5, 1.5, 2.5], 3, r"got list of float, such as 0.5 \(first at dataset index 30\); .*torch.unique"),
        ([True, False, True], 3, r"got list of bool, such as True \(first at .*\); return int\(label\)"),
        (
            np.array([True, False, True]),
            3,
            r"got ndarray of bool_?, such as .*True.* \(first at .*\); return int\(label\)",
        ),
        (torch.tensor([True, False, True]), 3, r"got torch.bool, such as True \(first at .*\); return int\(label\)"),
        ([[0, 1], [2], [1]], 3, r"got list of list, such as \[0, 1\] \(first at dataset index 30\); encode them"),
        ([None, 1, 2], 3, r"got list of NoneType, such as None \(first at dataset index 30\); encode them"),
        (
            torch.tensor([0.5, 1.5, 2.0]),
            3,
            r"such as 0.5 .*; MixNN is for classes: continuous targets, .* torch\.unique",
        ),
        ({"label": 1}, 3, r"got dict \(first at dataset index 30\); encode them"),
        ([], 3, r"got list \(first at dataset index 30\); encode them"),
        (torch.zeros(0), 3, r"got torch.float32 \(first at dataset index 30\); encode them"),
        (torch.tensor([0, 1]), 3, r"shape \(3,\), got \(2,\) \(first at dataset index 30\); return one label a sample"),
        (torch.tensor(0), 3, r"shape \(3,\), got \(\) \(first at dataset index 30\); return one label a sample"),
    ],
)
def test_a_label_that_is_no_class_index_is_named(labels: Any, num_classes: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_labels(labels, INDICES, num_classes)


ONE_HOT = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 1, 0]])
COLUMN = torch.tensor([[2], [0], [1]])


@pytest.mark.parametrize(
    "one_hot",
    [ONE_HOT, ONE_HOT.float(), ONE_HOT.bool(), ONE_HOT.double().numpy(), ONE_HOT.tolist(), ONE_HOT.float().tolist()],
)
def test_one_hot_labels_of_any_type_need_their_argmax(one_hot: Any) -> None:
    message = (
        r"labels must hold one class index a sample, shape \(3,\), got \(3, 3\) \(first at dataset index 30\); "
        "for one-hot labels use their argmax, and leave mixup and CutMix out of collate_fn: .* are not supported$"
    )
    with pytest.raises(ValueError, match=message):
        class_labels(one_hot, INDICES, 3)
    assert class_labels(torch.as_tensor(one_hot).int().argmax(-1), INDICES, 3).tolist() == [2, 0, 1]


@pytest.mark.parametrize("column", [COLUMN, COLUMN.float(), COLUMN.numpy(), COLUMN.tolist()])
def test_labels_with_a_dimension_of_one_must_drop_it(column: Any) -> None:
    message = (
        r"got \(3, 1\) \(first at dataset index 30\); drop the last dimension, label\.squeeze\(-1\) in the dataset$"
    )
    with pytest.raises(ValueError, match=message):
        class_labels(column, INDICES, 3)
    assert class_labels(torch.as_tensor(column).squeeze(-1).long(), INDICES, 3).tolist() == [2, 0, 1]


def test_labels_with_several_dimensions_of_one_must_drop_them() -> None:
    message = r"got \(3, 1, 1\) .*; drop the last dimensions, label\.reshape\(\(\)\) in the dataset$"
    with pytest.raises(ValueError, match=message):
        class_labels(COLUMN[:, None], INDICES, 3)
