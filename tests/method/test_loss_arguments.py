"""Class weights, smoothing, an ignored class and other losses: as torch.nn.CrossEntropyLoss has them for indices."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from mixnn_loader import MixNNLoss, MixNNTargets
from mixnn_loader.method.early_learning import EarlyLearning

MakeTargets = Callable[[int, int, int], MixNNTargets]

B, C = 6, 4
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 0.0])


def plain_targets(labels: Tensor, num_classes: int = C) -> MixNNTargets:
    """The targets of samples that are not mixed."""
    one_hot = functional.one_hot(labels, num_classes).float().unsqueeze(1)
    return MixNNTargets(one_hot, torch.ones(len(labels), 1), labels, labels.unsqueeze(1))


@settings(deadline=None)
@example(seed=1119493, weigh=True, label_smoothing=0.1, ignore_index=0, reduction="mean")  # no sample counts
@given(
    seed=st.integers(0, 2**31),
    weigh=st.booleans(),
    label_smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    ignore_index=st.sampled_from([-100, 0, 3, 7]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_of_one_hot_targets_it_is_cross_entropy_loss_of_class_indices(
    seed: int, weigh: bool, label_smoothing: float, ignore_index: int, reduction: str
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(B, C, generator=generator)
    labels = torch.randint(C, (B,), generator=generator)
    arguments: dict[str, Any] = {
        "weight": WEIGHT if weigh else None,
        "label_smoothing": label_smoothing,
        "ignore_index": ignore_index,
    }
    expected = nn.CrossEntropyLoss(reduction=reduction, **arguments)(logits, labels)
    criterion = MixNNLoss(reduction, **arguments)
    for targets in (labels, plain_targets(labels), functional.one_hot(labels, C).float()):
        found = criterion(logits, targets)
        if expected.isfinite().all():
            torch.testing.assert_close(found, expected)
        else:  # the mean over weights of which none counts: infinite or NaN, by which part is divided first
            assert not found.isfinite().any()


def test_of_mixed_targets_it_is_the_sum_over_classes(make_targets: MakeTargets, generator: torch.Generator) -> None:
    logits, targets = 3 * torch.randn(B, C, generator=generator), make_targets(B, 2, C)
    scores, mixed = logits.double().numpy(), targets.mixed.double().numpy()
    log_probabilities = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    weight = WEIGHT.double().numpy()
    kept = np.array([1, 0, 1, 1])  # class 1 is ignored
    smoothed = 0.9 * mixed * kept + 0.1 / C * (1 - mixed[:, [1]])
    losses = -(weight * smoothed * log_probabilities).sum(axis=1)
    counts = (weight * kept * mixed).sum(axis=1)
    for reduction, expected in (("none", losses), ("sum", losses.sum()), ("mean", losses.sum() / counts.sum())):
        criterion = MixNNLoss(reduction, weight=WEIGHT, label_smoothing=0.1, ignore_index=1)
        np.testing.assert_allclose(criterion(logits, targets), expected, rtol=1e-5)


def test_the_early_learning_term_is_weighed_like_its_sample(generator: torch.Generator) -> None:
    logits, labels = torch.randn(B, C, generator=generator), torch.arange(B) % C
    averages = torch.rand(B, 1, C, generator=generator) / C
    plain = plain_targets(labels)
    term = EarlyLearning(averages, 3.0, momentum=None)
    targets = MixNNTargets(plain.soft_targets, plain.weights, plain.labels, plain.groups, early_learning=term)
    weights = WEIGHT[labels]
    losses = functional.cross_entropy(logits, labels, WEIGHT, reduction="none")
    losses = losses + weights * term.term(logits, plain.weights)
    torch.testing.assert_close(MixNNLoss(weight=WEIGHT)(logits, targets), losses.sum() / weights.sum())
    torch.testing.assert_close(MixNNLoss("none", weight=WEIGHT)(logits, targets), losses)


def test_a_class_that_the_model_rules_out_and_that_weighs_nothing() -> None:
    logits = torch.tensor([[0.5, 1.0, 2.0, -torch.inf]])
    targets = plain_targets(torch.tensor([1]))
    expected = nn.CrossEntropyLoss(weight=WEIGHT)(logits, targets.labels)
    torch.testing.assert_close(MixNNLoss(weight=WEIGHT)(logits, targets), expected)
    smooth = MixNNLoss(weight=WEIGHT, label_smoothing=0.1)(logits, targets)
    assert smooth.isfinite()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("labels", [[1, 0, 2], [1, 1, 1]])
def test_what_is_ignored_may_be_infinite(reduction: str, labels: list[int]) -> None:
    logits = torch.tensor([[0.5, 1.0, -torch.inf, 0.1], [0.2, 0.3, 0.4, 0.5], [1.0, 0.0, 0.5, 0.5]])
    arguments: dict[str, Any] = {"reduction": reduction, "ignore_index": 1, "label_smoothing": 0.1}
    indices = torch.tensor(labels)
    expected = nn.CrossEntropyLoss(**arguments)(logits, indices)
    torch.testing.assert_close(MixNNLoss(**arguments)(logits, plain_targets(indices)), expected, equal_nan=True)


def focal(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Focal loss of soft targets, gamma of two."""
    log_probabilities = logits.log_softmax(dim=1)
    return -(probabilities * (1 - log_probabilities.exp()) ** 2 * log_probabilities).sum(dim=1)


def test_another_loss_gets_the_mixed_targets(make_targets: MakeTargets, generator: torch.Generator) -> None:
    logits, targets = torch.randn(B, C, generator=generator), make_targets(B, 2, C)
    expected = focal(logits, targets.mixed)
    for reduction, reduced in (("none", expected), ("mean", expected.mean()), ("sum", expected.sum())):
        torch.testing.assert_close(MixNNLoss(reduction, base=focal)(logits, targets), reduced)
    labels = targets.labels
    one_hot = functional.one_hot(labels, C).float()
    torch.testing.assert_close(MixNNLoss(base=focal)(logits, labels), focal(logits, one_hot).mean())
    same = MixNNLoss(base=nn.CrossEntropyLoss(reduction="none"))
    torch.testing.assert_close(same(logits, targets), MixNNLoss()(logits, targets))
    torch.testing.assert_close(same(logits, labels), nn.CrossEntropyLoss()(logits, labels))


def test_the_parameters_of_another_loss_are_those_of_the_loss() -> None:
    base = nn.Linear(2, 2)
    assert list(MixNNLoss(base=base).parameters()) == list(base.parameters())


def test_weights_move_with_the_loss_and_are_saved() -> None:
    criterion = MixNNLoss(weight=WEIGHT)
    assert [weight.device.type for weight in criterion.to("meta").buffers()] == ["meta"]
    assert list(MixNNLoss(weight=WEIGHT).state_dict()) == ["weight"]
    assert list(MixNNLoss().state_dict()) == []


def test_weights_elsewhere_or_of_other_classes_are_refused(make_targets: MakeTargets) -> None:
    targets = make_targets(B, 1, C)
    with pytest.raises(ValueError, match=r"one number a class, the logits are of 4 classes and it has 3"):
        MixNNLoss(weight=torch.ones(3))(torch.zeros(B, C), targets)
    elsewhere = MixNNLoss(weight=WEIGHT).to("meta")
    with pytest.raises(ValueError, match=r"weight is on meta and the logits on cpu; .*MixNNLoss\(...\).to\(device\)"):
        elsewhere(torch.zeros(B, C), targets)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_base_does_not_see_labels_that_count_for_nothing(reduction: str) -> None:
    logits = torch.randn(B, C, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(B) % C
    labels[1::3] = -100
    same = MixNNLoss(reduction, base=nn.CrossEntropyLoss(reduction="none"))(logits, labels)
    expected = nn.CrossEntropyLoss(reduction=reduction)(logits, labels)
    torch.testing.assert_close(same, expected)
    [gradient] = torch.autograd.grad(same.sum(), logits)
    [expected_gradient] = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weight": [1.0, 2.0]}, TypeError, r"weight must be a tensor \(C,\), got list"),
        ({"weight": torch.ones(2, 2)}, ValueError, r"\(C,\), got torch.float32 of shape \(2, 2\)"),
        ({"weight": torch.tensor([1, 2])}, ValueError, r"floating-point number a class, .* got torch.int64"),
        ({"weight": torch.tensor([1.0, -1.0])}, ValueError, r"finite and >= 0.* got \[1.0, -1.0\]"),
        ({"weight": torch.zeros(2)}, ValueError, r"not 0 everywhere"),
        ({"label_smoothing": 1.5}, ValueError, r"label_smoothing must be a number in \[0, 1\], got 1.5"),
        ({"ignore_index": 1.0}, TypeError, r"ignore_index must be an integer, got 1.0"),
        ({"base": 3}, TypeError, r"base must be a function \(logits, probabilities\) -> losses \(B,\), got int"),
        ({"base": focal, "label_smoothing": 0.1}, ValueError, r"give them to the loss that is base="),
        ({"base": focal, "weight": WEIGHT}, ValueError, r"give them to the loss that is base="),
        ({"reduction": WEIGHT}, ValueError, r"reduction must be one of .* class weights are weight="),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MixNNLoss(**arguments)


def test_another_loss_must_give_one_number_a_sample(make_targets: MakeTargets) -> None:
    targets = make_targets(B, 1, C)
    with pytest.raises(ValueError, match=r'one loss a sample, shape \(6,\), got \(\); build it with reduction="none"'):
        MixNNLoss(base=nn.CrossEntropyLoss())(torch.zeros(B, C), targets)

    def wrong(logits: Tensor, probabilities: Tensor) -> Any:
        return float(logits.mean() * probabilities.mean())

    with pytest.raises(TypeError, match=r"base must return a tensor of losses \(B,\), got float"):
        MixNNLoss(base=wrong)(torch.zeros(B, C), targets)


def test_the_representation_shows_what_is_not_as_by_default() -> None:
    criterion = MixNNLoss("none", weight=WEIGHT, label_smoothing=0.1, ignore_index=2)
    assert repr(criterion) == ("MixNNLoss(reduction='none', weight of 4 classes, label_smoothing=0.1, ignore_index=2)")
    assert repr(MixNNLoss(base=focal)) == "MixNNLoss(reduction='mean', base=focal)"


@pytest.mark.parametrize("wrap", [lambda logits: SimpleNamespace(logits=logits), lambda logits: {"logits": logits}])
def test_an_output_that_has_logits_is_taken_as_it_is(make_targets: MakeTargets, wrap: Callable[[Tensor], Any]) -> None:
    logits, targets = torch.randn(B, C), make_targets(B, 1, C)
    torch.testing.assert_close(MixNNLoss()(wrap(logits), targets), MixNNLoss()(logits, targets))
