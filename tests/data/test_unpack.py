"""A collated batch -> its inputs and its labels."""

from collections import UserDict
from typing import Any

import pytest
import torch

from mixnn_loader.data.unpack import resolve_unpack

INPUTS, LABELS = torch.ones(2, 3), torch.tensor([1, 0])
INDICES = torch.tensor([30, 10, 20])


@pytest.mark.parametrize(
    ("unpack", "batch"),
    [
        (None, (INPUTS, LABELS)),
        (None, [INPUTS, LABELS, "more"]),
        (("image", "label"), {"label": LABELS, "name": "more", "image": INPUTS}),
        (None, {"label": LABELS, "name": "more", "image": INPUTS}),
        (None, UserDict({"pixel_values": INPUTS, "attention_mask": "more", "labels": LABELS})),
        (None, {"img": INPUTS, "label": LABELS}),
        (("image", "label"), UserDict({"label": LABELS, "image": INPUTS})),
        ((2, 0), (LABELS, "more", INPUTS)),
        (lambda batch: (batch["x"], batch["y"]), {"x": INPUTS, "y": LABELS}),
    ],
)
def test_picks_inputs_and_labels(unpack: Any, batch: Any) -> None:
    inputs, labels, *_ = resolve_unpack(unpack)(batch)
    assert inputs is INPUTS
    assert labels is LABELS


@pytest.mark.parametrize(
    ("unpack", "batch", "left"),
    [
        (None, (INPUTS, LABELS), ()),
        (None, (INPUTS, LABELS, "path", INDICES), ("path", INDICES)),
        ((1, 2), (INDICES, INPUTS, LABELS), (INDICES,)),
        ((-1, 0), (LABELS, "path", INPUTS), ("path",)),
        (("image", "label"), {"label": LABELS, "image": INPUTS}, ()),
        (None, {"label": LABELS, "image": INPUTS, "path": "more"}, ({"path": "more"},)),
    ],
)
def test_what_is_left_follows(unpack: Any, batch: Any, left: tuple[Any, ...]) -> None:
    inputs, labels, *others = resolve_unpack(unpack)(batch)
    assert inputs is INPUTS
    assert labels is LABELS
    assert tuple(others) == left


@pytest.mark.parametrize("name", ["input_ids", "inputs_embeds", "input_values", "input_features"])
def test_all_that_goes_with_tokens_is_inputs(name: str) -> None:
    batch = {name: INPUTS, "attention_mask": INPUTS, "labels": LABELS, "text": ["one", "two"]}
    inputs, labels, others = resolve_unpack(None)(batch)
    assert others == {"text": ["one", "two"]}
    assert inputs == {name: INPUTS, "attention_mask": INPUTS}
    both = {"input_ids": INPUTS, "pixel_values": INPUTS, "label": LABELS}
    assert list(resolve_unpack(None)(both)[0]) == ["input_ids", "pixel_values"]
    assert labels is LABELS


@pytest.mark.parametrize("unpack", ["image", 3, ("image",), ("image", "label", "more"), {"image": "label"}])
def test_an_unpack_of_another_kind_is_refused(unpack: Any) -> None:
    with pytest.raises(TypeError, match=r"unpack must be a function .* or a pair of keys") as caught:
        resolve_unpack(unpack)
    assert repr(unpack) in str(caught.value)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"picture": INPUTS, "label": LABELS}, r"mappings with the keys \['picture', 'label'\]; pass unpack="),
        ({"image": INPUTS, "fine_label": LABELS}, r"mappings with the keys \['image', 'fine_label'\]; pass unpack="),
        ({"image": 0, "pixel_values": 0, "label": 0}, r"keys \['image', 'pixel_values', 'label'\]; pass unpack="),
        (INPUTS, r"samples must be \(inputs, label, \.\.\.\), got a batch of type Tensor; pass unpack="),
        ((INPUTS,), r"samples must be \(inputs, label, \.\.\.\), got a batch of type tuple; pass unpack="),
    ],
)
def test_a_batch_that_is_no_pair_names_unpack(batch: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        resolve_unpack(None)(batch)


@pytest.mark.parametrize(
    ("unpack", "batch", "message"),
    [
        (("image", "target"), {"image": INPUTS, "label": LABELS}, r"unpack='target' .* keys are \['image', 'label'\]"),
        ((0, 2), (INPUTS, LABELS), "unpack=2 is not in the batch; it is a tuple"),
        (("image", "label"), (INPUTS, LABELS), "unpack='image' is not in the batch; it is a tuple"),
    ],
)
def test_a_key_that_is_not_in_the_batch_is_named(unpack: Any, batch: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        resolve_unpack(unpack)(batch)
