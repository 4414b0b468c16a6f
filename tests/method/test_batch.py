"""What an epoch yields."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch.utils._pytree import tree_map

from mixnn_loader import MixNNBatch, MixNNTargets

MakeTargets = Callable[[int, int, int], MixNNTargets]


def test_a_batch_is_a_pair(make_targets: MakeTargets) -> None:
    made = make_targets(2, 1, 3)
    inputs, targets = batch = MixNNBatch(torch.ones(2, 5), made)
    assert batch.inputs is inputs
    assert batch.targets is targets is made


def test_a_batch_is_built_anew_of_what_it_holds(make_targets: MakeTargets) -> None:
    batch = MixNNBatch(torch.ones(2, 5), make_targets(2, 1, 3))
    for again in (type(batch)(part for part in batch), type(batch)(*batch), batch._replace(), deepcopy(batch)):
        assert type(again) is MixNNBatch
        assert torch.equal(again.inputs, batch.inputs)
        assert len(again.targets) == 2
    for wrong in (torch.zeros(3, 5), [1], [1, 2]):
        with pytest.raises(
            TypeError, match="takes inputs and targets, or an iterable of both, and got no MixNNTargets"
        ):
            MixNNBatch(wrong)
    assert type(tree_map(lambda part: part, batch)) is MixNNBatch


def test_inputs_with_names_are_found_by_them(make_targets: MakeTargets) -> None:
    batch = MixNNBatch({"input_ids": torch.zeros(2, 3), "attention_mask": torch.ones(2, 3)}, make_targets(2, 1, 4))
    assert batch["attention_mask"] is batch.inputs["attention_mask"]
    assert (batch[0], batch[1]) == (batch.inputs, batch.targets)
    assert dict(**batch).keys() == batch.inputs.keys()
    assert "input_ids" in batch
    assert "labels" not in batch
    with pytest.raises(KeyError, match=r"have \['input_ids', 'attention_mask'\], not 'labels'; .* in batch.targets"):
        batch["labels"]
    plain = MixNNBatch(torch.zeros(2, 3), batch.targets)
    assert "input_ids" not in plain
    with pytest.raises(KeyError, match="have no names, not 'image'"):
        plain["image"]
    with pytest.raises(TypeError, match=r"have no names, they are a Tensor; take batch\.inputs"):
        dict(**plain)
