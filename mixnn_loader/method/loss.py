"""The training objective."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from mixnn_loader._utils.checks import check_fraction
from mixnn_loader._utils.logits import logits_of
from mixnn_loader._utils.warn import warn_user
from mixnn_loader.method.batch import MixNNBatch
from mixnn_loader.method.receipt import LeftOut, Surprise, left_out
from mixnn_loader.method.soft_cross_entropy import soft_cross_entropy
from mixnn_loader.method.targets import MixNNTargets

_REDUCTIONS = ("mean", "sum", "none")

BaseLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``(logits (B, C), probabilities (B, C)) -> losses (B,)``."""

_SURPRISES: dict[Surprise, str] = {
    "replayed": (
        "MixNNLoss got a batch that has been trained on before, after a later one: kept batches, as "
        "itertools.cycle(loader) keeps them, are never mixed anew, and the schedule stands still. Start a new pass "
        "over the loader instead: while True: for batch in loader: ..."
    ),
    "plain": (
        "MixNNLoss got a batch of a pass that was started with gradients off: nothing in it is mixed, and the schedule "
        "stands still. Start the pass, and ask for its first batch, outside of torch.no_grad()"
    ),
    "late": (
        "MixNNLoss got a batch of a pass that was over before: it does not count, and where all are such, the "
        "schedule stands still. A pass is over when nothing holds its iterator any more, as in next(iter(loader)): "
        "keep it, batches = iter(loader), and start another one where it ends"
    ),
}

_LEFT_OUT: dict[LeftOut, str] = {
    "idle": (
        "MixNNLoss got plain class indices in a training step, and there is a MixNNDataLoader that has given no batch: "
        "this is plain cross-entropy. Something has made a plain DataLoader of the wrapped one (prepare_data_loader, "
        "skip_first_batches, make_private, DataLoader(loader.dataset, ...)); wrap what it returned, and iterate the "
        "MixNNDataLoader itself"
    ),
    "unasked": (
        "MixNNLoss got plain class indices in a training step, and was never taken of a batch of the MixNNDataLoader, "
        "which has given several: mixed inputs go with mixed targets. Take MixNNLoss()(logits, targets), not of "
        "targets.labels; where the dataset gives more than inputs and labels, unpack= says which part is the label, "
        "and extras come after the targets"
    ),
}


class MixNNLoss(nn.Module):
    """Cross-entropy against the mixed soft targets (Eq. 7), and the early-learning term where the loader has one.

    The loss of a sample is -Σ_c ỹ_c log softmax(logits)_c, which is the paper's λ CE(t_i) + Σ β CE(t_k). It is
    computed in float32 or wider whatever the logits' type is. For plain class indices it equals
    `torch.nn.CrossEntropyLoss`, so that one criterion serves training and validation, and so it does during warm-up,
    unless the loader has ``early_learning=λ``: then λ log(1 - <ẽ, p̃>) is added, which is negative, see
    `mixnn_loader.method.early_learning`. Of several losses of one batch, the loader is told the logits of the first.

    Class weights, smoothing and an ignored class have the semantics that `torch.nn.CrossEntropyLoss` has for class
    indices, for mixed targets and probabilities, too: the mean is over the weights, Σ_c w_c ỹ_c of each sample. PyTorch
    divides by B there, which multiplies the step by the mean weight.

    Args:
        reduction: ``"mean"`` over the batch, ``"sum"``, or ``"none"`` for one loss a sample.
        weight: (C,) float, w of each class; None: 1 each.
        label_smoothing: in [0, 1], the part of a target that is spread over all classes.
        ignore_index: a class whose part of a target counts for nothing.
        base: another loss in place of cross-entropy, ``(logits, probabilities) -> losses``, (B, C) and (B, C) to (B,):
            focal loss, generalized cross-entropy, a function of your own, ``nn.CrossEntropyLoss(reduction="none")``.
            Class indices reach it as one-hot probabilities; those of -100 count for nothing, as in cross-entropy.
            Weights and the like are its own affair.

    Raises:
        TypeError: ``weight`` is no tensor, ``ignore_index`` no integer, or ``base`` cannot be called.
        ValueError: another argument is outside its range, or goes with ``base``.

    Example:
        >>> import torch
        >>> logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
        >>> torch.allclose(MixNNLoss()(logits, labels), torch.nn.CrossEntropyLoss()(logits, labels))
        True
    """

    weight: Tensor | None

    def __init__(
        self,
        reduction: str = "mean",
        *,
        weight: Tensor | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        base: BaseLoss | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(reduction, str) or reduction not in _REDUCTIONS:
            raise ValueError(f"reduction must be one of {_REDUCTIONS}, got {reduction!r}; class weights are weight=")
        check_fraction("label_smoothing", label_smoothing)
        if isinstance(ignore_index, bool) or not isinstance(ignore_index, int):
            raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}")
        if weight is not None:
            _check_weight(weight)
        if base is not None:
            if not callable(base):
                raise TypeError(
                    f"base must be a function (logits, probabilities) -> losses (B,), got {type(base).__name__}"
                )
            if weight is not None or label_smoothing != 0 or ignore_index != -100:
                raise ValueError(
                    "weight, label_smoothing and ignore_index are of cross-entropy: give them to the loss that is base="
                )
        self.reduction = reduction
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index
        self.base = base
        self.register_buffer("weight", weight)
        self._warned_of_plain_labels = False

    def forward(self, logits: Any, targets: MixNNBatch | MixNNTargets | Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: (B, C), the model's output for the mixed inputs, or an output that has them as ``logits``, as
                Hugging Face's models give it.
            targets: the batch, its targets, (B,) class indices or (B, C) probabilities.

        Warns:
            UserWarning: once, for plain class indices where a MixNN loader has been built that has given no batch, or
                several of which no loss was taken; and once a loader each, for a batch that is trained on again after a
                later one, for one of a pass that was started with gradients off, and for a second one of passes that
                were over before.

        Returns:
            A scalar for ``reduction="mean"`` and ``"sum"``, (B,) for ``"none"``.

        Raises:
            TypeError: ``targets`` is none of these, or of the wrong type, or ``base`` gives no tensor.
            ValueError: the logits do not fit the targets in shape or device, or weights the logits, or ``base`` gives
                another shape.
        """
        logits = logits_of(logits)
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"logits must be a tensor, got {type(logits).__name__}; the order is MixNNLoss()(logits, targets)"
            )
        if isinstance(targets, MixNNBatch):
            targets = targets.targets
        target = targets.mixed if isinstance(targets, MixNNTargets) else targets
        if not isinstance(target, Tensor):
            raise TypeError(
                "targets must be a MixNNBatch, MixNNTargets or a tensor of class indices or probabilities, got "
                f"{type(target).__name__}"
            )
        if isinstance(targets, MixNNTargets) and len(logits) == targets.groups.numel() > len(targets):
            raise ValueError(
                "the model gave a row for each sample and each of its neighbors: nothing was mixed in mix_layer=. "
                "Train the module that the loader was given, in train mode, on the inputs as they were handed out"
            )
        _check_fit(logits, target)
        if logits.requires_grad and not torch.compiler.is_compiling():
            self._note(logits, targets)
        wide_logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        self._check_weight_fits(wide_logits)
        if target.dim() == 1 and self.base is None:
            return self._of_class_indices(wide_logits, target.long())
        losses, weights = self._of_probabilities(wide_logits, target)
        if isinstance(targets, MixNNTargets) and targets.early_learning is not None:
            term = targets.early_learning.term(wide_logits, targets.weights)
            losses = losses + (term if weights is None else weights * term)
        if self.reduction == "none":
            return losses
        if self.reduction == "sum":
            return losses.sum()
        return losses.mean() if weights is None else losses.sum() / weights.sum()

    def _of_class_indices(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits,
            labels,
            None if self.weight is None else self.weight.to(logits.dtype),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )

    def _of_probabilities(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return losses (B,), and what they count for in the mean; None: 1 each."""
        if self.base is None:
            return soft_cross_entropy(
                logits,
                targets,
                weight=self.weight,
                label_smoothing=self.label_smoothing,
                ignore_index=self.ignore_index,
            )
        counts: Tensor | None = None
        if targets.dim() == 1:
            is_ignored, labels = targets == self.ignore_index, targets.long()
            counts = (~is_ignored).to(logits.dtype)
            targets = torch.zeros_like(logits).scatter_(1, labels.masked_fill(is_ignored, 0).unsqueeze(1), 1)
        losses = self.base(logits, targets)
        if not isinstance(losses, Tensor):
            raise TypeError(f"base must return a tensor of losses (B,), got {type(losses).__name__}")
        if losses.shape != logits.shape[:1]:
            raise ValueError(
                f"base must return one loss a sample, shape {tuple(logits.shape[:1])}, got {tuple(losses.shape)}; "
                'build it with reduction="none", and give MixNNLoss the reduction'
            )
        return (losses, None) if counts is None else (losses.where(counts > 0, 0), counts)

    def _check_weight_fits(self, logits: Tensor) -> None:
        if self.weight is None:
            return
        if len(self.weight) != logits.shape[1]:
            raise ValueError(
                f"weight must hold one number a class, the logits are of {logits.shape[1]} classes and it has "
                f"{len(self.weight)}"
            )
        if self.weight.device != logits.device:
            raise ValueError(
                f"weight is on {self.weight.device} and the logits on {logits.device}; move the loss there, "
                "MixNNLoss(...).to(device)"
            )

    def _note(self, logits: Tensor, targets: MixNNTargets | Tensor) -> None:
        """Tell the loader that the batch is trained on; say so where MixNN does not happen."""
        if isinstance(targets, Tensor):
            if targets.dim() == 1 and not self._warned_of_plain_labels and (what := left_out()) is not None:
                self._warned_of_plain_labels = True
                warn_user(_LEFT_OUT[what])
        elif targets.receipt is not None and (surprise := targets.receipt.sign(logits)) is not None:
            warn_user(_SURPRISES[surprise])

    def extra_repr(self) -> str:
        """Show what is not as by default, and the reduction, in the module's representation."""
        shown = [f"reduction={self.reduction!r}"]
        if self.weight is not None:
            shown.append(f"weight of {len(self.weight)} classes")
        if self.label_smoothing != 0:
            shown.append(f"label_smoothing={self.label_smoothing}")
        if self.ignore_index != -100:
            shown.append(f"ignore_index={self.ignore_index}")
        if self.base is not None and not isinstance(self.base, nn.Module):  # a module is shown as the others are
            shown.append(f"base={getattr(self.base, '__name__', self.base)}")
        return ", ".join(shown)


def _check_weight(weight: Any) -> None:
    if not isinstance(weight, Tensor):
        raise TypeError(f"weight must be a tensor (C,), got {type(weight).__name__}")
    if weight.dim() != 1 or not weight.is_floating_point():
        raise ValueError(
            f"weight must hold one floating-point number a class, (C,), got {weight.dtype} of shape "
            f"{tuple(weight.shape)}"
        )
    if not bool(weight.isfinite().all()) or not bool((weight >= 0).all()) or not bool((weight > 0).any()):
        raise ValueError(f"weight must be finite and >= 0, and not 0 everywhere, got {weight.tolist()}")


def _check_fit(logits: Tensor, target: Tensor) -> None:
    fits = logits.shape == target.shape if target.dim() == 2 else logits.shape[:1] == target.shape
    if logits.dim() != 2 or not fits:
        raise ValueError(
            f"logits must be (B, C) and fit the targets, got logits {tuple(logits.shape)} and targets "
            f"{tuple(target.shape)}; C is the model's output width, see num_classes"
        )
    if target.is_floating_point() != (target.dim() == 2):
        raise TypeError(
            f"targets must be integer class indices (B,) or probabilities (B, C), got {target.dtype} of shape "
            f"{tuple(target.shape)}"
        )
    if logits.device != target.device:
        raise ValueError(
            f"logits are on {logits.device} and targets on {target.device}; move both to one device, "
            "e.g. targets.to(logits.device)"
        )
