"""The training objective, against NumPy and torch.nn.CrossEntropyLoss."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mixnn_loader import MixNNBatch, MixNNLoss, MixNNTargets
from mixnn_loader.method.early_learning import EarlyLearning

MakeTargets = Callable[[int, int, int], MixNNTargets]

B, C = 6, 4


@pytest.fixture
def logits(generator: torch.Generator) -> Tensor:
    return 3 * torch.randn(B, C, generator=generator)


def cross_entropy(logits: Tensor, targets: Tensor) -> NDArray[np.float64]:
    """-Σ_c t_c log softmax(logits)_c of each row, (B,)."""
    scores = logits.double().numpy()
    scores = scores - scores.max(axis=1, keepdims=True)
    log_probabilities = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    losses: NDArray[np.float64] = -(targets.double().numpy() * log_probabilities).sum(axis=1)
    return losses


@pytest.mark.parametrize("num_neighbors", [0, 1, 3])
def test_equals_both_forms_of_equation_7(make_targets: MakeTargets, logits: Tensor, num_neighbors: int) -> None:
    targets = make_targets(B, num_neighbors, C)
    mixed = np.einsum("bk,bkc->bc", targets.weights.double().numpy(), targets.soft_targets.double().numpy())
    mixed_form = cross_entropy(logits, torch.from_numpy(mixed))
    weights = targets.weights.double().numpy()
    own_term = weights[:, 0] * cross_entropy(logits, targets.soft_targets[:, 0])
    neighbor_terms = [
        weights[:, k] * cross_entropy(logits, targets.soft_targets[:, k]) for k in range(1, num_neighbors + 1)
    ]
    losses = MixNNLoss("none")(logits, targets)
    assert losses.shape == (B,)
    np.testing.assert_allclose(losses, mixed_form, rtol=1e-5)
    np.testing.assert_allclose(losses, sum(neighbor_terms, own_term), rtol=1e-5)
    np.testing.assert_allclose(MixNNLoss()(logits, targets), mixed_form.mean(), rtol=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_equals_cross_entropy_loss_where_nothing_is_mixed(
    make_targets: MakeTargets, logits: Tensor, reduction: str
) -> None:
    labels = make_targets(B, 0, C).labels
    warm_up = MixNNTargets(
        functional.one_hot(labels, C).float().unsqueeze(1), torch.ones(B, 1), labels, labels.unsqueeze(1)
    )
    expected = nn.CrossEntropyLoss(reduction=reduction)(logits, labels)
    criterion = MixNNLoss(reduction)
    torch.testing.assert_close(criterion(logits, warm_up), expected)
    torch.testing.assert_close(criterion(logits, labels), expected)


def test_takes_the_whole_batch(make_targets: MakeTargets, logits: Tensor) -> None:
    targets = make_targets(B, 2, C)
    loss = MixNNLoss()
    torch.testing.assert_close(loss(logits, MixNNBatch(torch.ones(B), targets)), loss(logits, targets), rtol=0, atol=0)


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_narrow_logits_give_a_float32_loss(make_targets: MakeTargets, logits: Tensor, narrow: torch.dtype) -> None:
    targets = make_targets(B, 1, C)
    loss = MixNNLoss()(logits.to(narrow), targets)
    assert loss.dtype == torch.float32
    np.testing.assert_allclose(loss, cross_entropy(logits.to(narrow), targets.mixed).mean(), rtol=1e-5)


def test_float32_under_autocast(make_targets: MakeTargets, logits: Tensor) -> None:
    targets = make_targets(B, 1, C)
    layer = nn.Linear(C, C)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        outputs = layer(logits)
        loss = MixNNLoss()(outputs, targets)
    assert outputs.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    np.testing.assert_allclose(loss, cross_entropy(outputs, targets.mixed).mean(), rtol=1e-5)


def test_float64_stays_float64(make_targets: MakeTargets, logits: Tensor) -> None:
    targets = make_targets(B, 1, C)
    loss = MixNNLoss()(logits.double(), targets)
    assert loss.dtype == torch.float64
    np.testing.assert_allclose(loss, cross_entropy(logits, targets.mixed).mean(), rtol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_differentiable_twice(make_targets: MakeTargets, logits: Tensor, reduction: str) -> None:
    targets = make_targets(B, 2, C)
    inputs = logits.double().requires_grad_()
    criterion = MixNNLoss(reduction)
    assert torch.autograd.gradcheck(lambda x: criterion(x, targets), inputs)
    assert torch.autograd.gradgradcheck(lambda x: criterion(x, targets), inputs)


@pytest.mark.parametrize(
    ("shape", "classes"),
    [((B, C + 1), False), ((B - 1, C), False), ((B, C, 1), False), ((B - 1, C), True), ((B,), True)],
)
def test_a_misfit_of_shapes_names_both(make_targets: MakeTargets, shape: tuple[int, ...], classes: bool) -> None:
    targets = make_targets(B, 1, C)
    expected = f"got logits {shape} and targets {(B,) if classes else (B, C)}"
    with pytest.raises(ValueError, match="logits must be") as caught:
        MixNNLoss()(torch.zeros(shape), targets.labels if classes else targets)
    assert expected in str(caught.value)


def test_a_misfit_of_devices_names_both(make_targets: MakeTargets) -> None:
    with pytest.raises(ValueError, match="logits are on meta and targets on cpu"):
        MixNNLoss()(torch.zeros(B, C, device="meta"), make_targets(B, 1, C))


@pytest.mark.parametrize("targets", [None, [0, 1], np.zeros(B, dtype=np.int64)])
def test_targets_of_another_type_are_refused(logits: Tensor, targets: Any) -> None:
    with pytest.raises(TypeError, match=f"targets must be .* got {type(targets).__name__}"):
        MixNNLoss()(logits, targets)


@pytest.mark.parametrize("reduction", ["max", "", None])
def test_an_unknown_reduction_is_refused(reduction: Any) -> None:
    with pytest.raises(ValueError, match=rf"reduction must be one of \('mean', 'sum', 'none'\), got {reduction!r}"):
        MixNNLoss(reduction)


def test_representation_shows_the_reduction() -> None:
    assert repr(MixNNLoss("none")) == "MixNNLoss(reduction='none')"


def test_a_class_that_the_model_rules_out_costs_nothing_where_the_target_is_zero() -> None:
    logits = torch.tensor([[1.0, -torch.inf, 0.5]])
    targets = MixNNTargets(
        torch.tensor([[[0.3, 0.0, 0.7]]]),
        torch.ones(1, 1),
        torch.tensor([2]),
        torch.tensor([[0]]),
    )
    log_probabilities = logits[0, [0, 2]].log_softmax(dim=0)
    expected = -(0.3 * log_probabilities[0] + 0.7 * log_probabilities[1])
    torch.testing.assert_close(MixNNLoss()(logits, targets), expected)


@pytest.mark.parametrize("targets", [torch.zeros(4), torch.zeros(4, 3, dtype=torch.int64)])
def test_targets_of_another_dtype_are_refused(targets: Tensor) -> None:
    with pytest.raises(
        TypeError, match=rf"integer class indices \(B,\) or probabilities \(B, C\), got {targets.dtype}"
    ):
        MixNNLoss()(torch.zeros(4, 3), targets)


def test_narrow_class_indices_are_class_indices() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    assert MixNNLoss()(logits, labels.to(torch.uint8)) == functional.cross_entropy(logits, labels)


def test_arguments_in_the_other_order_are_named(make_targets: MakeTargets) -> None:
    targets: Any = make_targets(3, 1, 4)
    with pytest.raises(
        TypeError, match=r"logits must be a tensor, got MixNNTargets; the order is .*\(logits, targets\)"
    ):
        MixNNLoss()(targets, torch.zeros(3, 4))


def test_weights_that_are_rounded_up_leave_the_early_learning_term_finite() -> None:
    certain = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    term = EarlyLearning(certain, 3.0, None).term(torch.tensor([[50.0, 0.0]]), torch.tensor([[0.505, 0.5]]))
    assert term.item() == pytest.approx(3 * np.log(1e-4), rel=1e-5)
