"""What comes with the inputs: soft targets, weights, labels, and a mapping of them."""

import pickle
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils import slice_tensors
from torch import nn
from torch.utils.data import default_convert
from toy import tensors_of

from mixnn_loader import MixNNLoss, MixNNTargets
from mixnn_loader.method.early_learning import EarlyLearning
from mixnn_loader.method.receipt import Receipt

MakeTargets = Callable[[int, int, int], MixNNTargets]


@pytest.mark.parametrize(
    "take",
    [
        lambda made: made[:2],
        lambda made: made[0],
        lambda made: made[made.labels > 0],
        lambda made: 1 in made,
        lambda made: MixNNTargets({name: part if name == "rest" else part[:2] for name, part in made.items()}),
        lambda made: slice_tensors(made, slice(0, 2)),
    ],
)
def test_targets_are_not_taken_apart(make_targets: MakeTargets, take: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"as a whole: .* take a smaller batch_size, and accumulate gradients"):
        take(make_targets(4, 1, 3))


@pytest.mark.parametrize("num_neighbors", [0, 1, 3])
def test_mixed_is_the_weighted_sum_and_stays_on_the_simplex(make_targets: MakeTargets, num_neighbors: int) -> None:
    targets = make_targets(6, num_neighbors, 4)
    expected = np.einsum("bk,bkc->bc", targets.weights.double().numpy(), targets.soft_targets.double().numpy())
    np.testing.assert_allclose(targets.mixed, expected, atol=1e-6)
    assert (targets.mixed >= 0).all()
    np.testing.assert_allclose(targets.mixed.sum(dim=1), np.ones(6), atol=1e-6)


def test_mixed_is_float32_under_autocast(make_targets: MakeTargets) -> None:
    targets = make_targets(6, 2, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = targets.mixed
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, targets.mixed, rtol=0, atol=0)


@pytest.mark.parametrize("num_neighbors", [0, 2])
def test_len_is_the_number_of_samples(make_targets: MakeTargets, num_neighbors: int) -> None:
    assert len(make_targets(5, num_neighbors, 3)) == 5


@pytest.mark.parametrize("device", ["meta", torch.device("meta")])
def test_to_moves_every_tensor(make_targets: MakeTargets, device: torch.device | str) -> None:
    targets = make_targets(3, 1, 4)
    moved = targets.to(device, non_blocking=True)
    for name in tensors_of(targets):
        assert getattr(moved, name).device.type == "meta"
        assert getattr(moved, name).shape == getattr(targets, name).shape
        assert getattr(targets, name).device.type == "cpu"


def test_to_copies_nothing_that_is_there_already(make_targets: MakeTargets) -> None:
    targets = make_targets(3, 1, 4)
    moved = targets.to("cpu")
    for name in ("soft_targets", "weights", "labels", "groups"):
        assert getattr(moved, name) is getattr(targets, name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
def test_pin_memory_pins_every_tensor(make_targets: MakeTargets) -> None:
    targets = make_targets(3, 1, 4)
    pinned = targets.pin_memory()
    for name in tensors_of(targets):
        assert getattr(pinned, name).is_pinned()
        torch.testing.assert_close(getattr(pinned, name), getattr(targets, name))


LOGITS = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("cross_entropy", lambda targets: nn.CrossEntropyLoss()(LOGITS, targets)),
        ("nll_loss", lambda targets: nn.NLLLoss()(LOGITS, targets)),
        ("kl_div", lambda targets: nn.functional.kl_div(LOGITS, targets)),
        ("mse_loss", lambda targets: nn.MSELoss()(LOGITS, targets)),
        ("eq", lambda targets: LOGITS.argmax(dim=1).eq(targets)),
        ("cat", lambda targets: torch.cat([targets, targets])),
        ("numpy.asarray", np.asarray),
    ],
)
def test_targets_in_the_place_of_a_tensor_name_the_loss_and_their_tensors(
    make_targets: MakeTargets, name: str, use: Callable[[Any], object]
) -> None:
    message = f"^{name} got MixNNTargets where it takes a tensor; use MixNNLoss .* targets.mixed .* targets.labels"
    with pytest.raises(TypeError, match=message):
        use(make_targets(3, 1, 4))


def test_skorch_makes_no_tensor_of_them(make_targets: MakeTargets) -> None:
    to_tensor = pytest.importorskip("skorch.utils").to_tensor
    with pytest.raises(TypeError, match="cannot become a tensor; use MixNNLoss"):
        to_tensor(make_targets(3, 1, 4), "cpu")


def test_targets_are_shown_in_one_line(make_targets: MakeTargets) -> None:
    assert repr(make_targets(3, 2, 4)) == "MixNNTargets(3 samples, 2 neighbors each, 4 classes, device='cpu')"


def test_what_the_message_names_is_what_the_loss_takes(make_targets: MakeTargets) -> None:
    targets = make_targets(3, 1, 4)
    mixed = -(targets.mixed * LOGITS.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(nn.CrossEntropyLoss()(LOGITS, targets.mixed), mixed)
    given = -LOGITS.log_softmax(dim=1)[torch.arange(3), targets.labels].mean()
    torch.testing.assert_close(nn.CrossEntropyLoss()(LOGITS, targets.labels), given)


@pytest.mark.parametrize("copy", [lambda targets: pickle.loads(pickle.dumps(targets)), deepcopy])
def test_targets_can_be_copied(make_targets: MakeTargets, copy: Callable[[MixNNTargets], MixNNTargets]) -> None:
    targets = make_targets(3, 1, 4)
    copied = copy(targets)
    for name in tensors_of(targets):
        assert torch.equal(getattr(copied, name), getattr(targets, name))


def moved(part: Any) -> Any:
    """What a framework makes of a part: a copy of a tensor, bytes as they are, and of anything else an error."""
    if isinstance(part, bytes):
        return part
    assert isinstance(part, torch.Tensor)
    return part.clone()


@pytest.mark.parametrize("momentum", [None, 0.7])
@pytest.mark.parametrize("has_term", [True, False])
def test_targets_are_built_anew_as_a_mapping(make_targets: MakeTargets, has_term: bool, momentum: float | None) -> None:
    plain = make_targets(3, 1, 4)
    averages = torch.rand(3, 2, 4) / 4
    early = EarlyLearning(averages, 2.5, momentum) if has_term else None
    targets = replace(plain, receipt=Receipt(), early_learning=early)
    assert isinstance(targets, Mapping)
    names = ["soft_targets", "weights", "labels", "groups"] + ["averages"] * has_term
    assert [name for name, part in targets.items() if isinstance(part, torch.Tensor)] == names
    assert dict(targets).keys() == targets.keys() == {name for name, _ in targets.items()}
    assert len(targets.values()) == len(targets.keys())
    again = type(targets)({name: moved(part) for name, part in targets.items()})
    assert type(again) is MixNNTargets
    assert again.receipt is targets.receipt
    for name in names[:4]:
        assert torch.equal(getattr(again, name), getattr(targets, name))
        assert getattr(again, name) is not getattr(targets, name)
        assert targets[name] is getattr(targets, name)
    loss = MixNNLoss()(LOGITS.clone().requires_grad_(), again)
    torch.testing.assert_close(loss.detach(), MixNNLoss()(LOGITS, replace(targets, receipt=None)))
    assert targets.receipt is not None
    assert targets.receipt.trained_on, "the loader waits for this one"
    if again.early_learning is not None:
        assert again.early_learning.averages is not averages
        assert again.early_learning.momentum == momentum


def test_pytorch_s_loader_hands_them_on(make_targets: MakeTargets) -> None:
    targets = make_targets(3, 1, 4)
    assert list(targets) == list(targets.keys())
    convert: Callable[[Any], Any] = default_convert
    again = convert((torch.ones(3), targets))[1]
    assert isinstance(again, MixNNTargets)
    assert torch.equal(again.mixed, targets.mixed)


def test_arguments_are_all_there(make_targets: MakeTargets) -> None:
    made: Any = MixNNTargets
    targets = make_targets(3, 1, 4)
    with pytest.raises(TypeError, match="got no weights, groups"):
        made(targets.soft_targets, labels=targets.labels)
    with pytest.raises(TypeError, match=r"nothing beside a mapping of its parts, and got \['weights'\]"):
        made(dict(targets), weights=targets.weights)
    assert made(targets).labels is targets.labels


def test_a_mapping_of_other_parts_is_refused(make_targets: MakeTargets) -> None:
    parts = dict(make_targets(3, 1, 4))
    for wrong in ({}, {"labels": parts["labels"]}, parts | {"rest": b""}):
        with pytest.raises(TypeError, match=r"takes its parts as targets\.items\(\) gives them"):
            MixNNTargets(wrong)
    del parts["weights"]
    with pytest.raises(TypeError, match="got soft_targets, labels, groups, rest"):
        MixNNTargets(parts)
    averaged = replace(make_targets(3, 1, 4), early_learning=EarlyLearning(torch.rand(3, 2, 4) / 4, 2.5, None))
    with pytest.raises(TypeError, match="weights, labels, groups, averages and rest, and got soft_targets, weights"):
        MixNNTargets({name: part for name, part in averaged.items() if name != "averages"})


def test_parts_are_found_by_name_and_samples_are_not(make_targets: MakeTargets) -> None:
    targets = make_targets(3, 1, 4)
    assert "labels" in targets
    assert "loss" not in targets
    assert targets.get("labels") is targets.labels
    assert targets.get("loss") is None
    assert targets.get("loss", 1) == 1
    with pytest.raises(KeyError, match="loss"):
        targets["loss"]


def test_samples_are_counted_as_of_class_indices(make_targets: MakeTargets) -> None:
    targets = make_targets(3, 1, 4)
    assert targets.shape == targets.size() == torch.Size([3])
    assert targets.size(0) == targets.shape[0] == len(targets) == 3


@pytest.mark.parametrize("name", ["view", "numpy", "cpu", "device"])
def test_what_a_tensor_would_have_is_told_where_to_find(make_targets: MakeTargets, name: str) -> None:
    with pytest.raises(AttributeError, match=rf"no attribute '{name}'; it is no tensor: .* len\(targets\), .*labels"):
        getattr(make_targets(3, 1, 4), name)
