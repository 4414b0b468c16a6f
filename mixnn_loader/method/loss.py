"""The training objective."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mixnn_loader._utils.warn import warn_user
from mixnn_loader.method.batch import MixNNBatch, MixNNTargets
from mixnn_loader.method.receipt import Surprise, is_a_loader_idle

_REDUCTIONS = ("mean", "none")

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
}


class MixNNLoss(nn.Module):
    """Cross-entropy against the mixed soft targets (Eq. 7), and the early-learning term where the loader has one.

    The loss of a sample is -Σ_c ỹ_c log softmax(logits)_c, which is the paper's λ CE(t_i) + Σ β CE(t_k). It is
    computed in float32 or wider whatever the logits' type is. For plain class indices it equals
    `torch.nn.CrossEntropyLoss`, so that one criterion serves training and validation, and so it does during warm-up,
    unless the loader has ``early_learning=λ``: then λ log(1 - <ẽ, p̃>) is added, which is negative, see
    `mixnn_loader.method.early_learning`. Of several losses of one batch, the loader is told the logits of the first.

    Args:
        reduction: ``"mean"`` over the batch, or ``"none"`` for one loss a sample.

    Raises:
        ValueError: ``reduction`` is neither.

    Example:
        >>> import torch
        >>> logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
        >>> torch.allclose(MixNNLoss()(logits, labels), torch.nn.CrossEntropyLoss()(logits, labels))
        True
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in _REDUCTIONS:
            raise ValueError(f"reduction must be one of {_REDUCTIONS}, got {reduction!r}")
        self.reduction = reduction
        self._warned_of_plain_labels = False

    def forward(self, logits: Tensor, targets: MixNNBatch | MixNNTargets | Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: (B, C), the model's output for the mixed inputs.
            targets: the batch, its targets, (B,) class indices or (B, C) probabilities.

        Warns:
            UserWarning: once, for plain class indices where a MixNN loader has been built that has given no batch;
                and once a loader each, for a batch that is trained on again after a later one, and for one of a pass
                that was started with gradients off.

        Returns:
            A scalar for ``reduction="mean"``, (B,) for ``"none"``.

        Raises:
            TypeError: ``targets`` is none of these, or of the wrong type.
            ValueError: the logits do not fit the targets in shape or device.
        """
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
        _check_fit(logits, target)
        if logits.requires_grad and not torch.compiler.is_compiling():
            self._note(logits, targets)
        wide_logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if target.dim() == 1:
            return functional.cross_entropy(wide_logits, target.long(), reduction=self.reduction)
        # Where the target is zero, a class that the model rules out (a logit of -inf) must not give 0 * inf.
        log_probabilities = wide_logits.log_softmax(dim=1).masked_fill(target == 0, 0)
        losses = -(target * log_probabilities).sum(dim=1)
        if isinstance(targets, MixNNTargets) and targets.early_learning is not None:
            losses = losses + targets.early_learning.term(wide_logits, targets.weights)
        return losses.mean() if self.reduction == "mean" else losses

    def _note(self, logits: Tensor, targets: MixNNTargets | Tensor) -> None:
        """Tell the loader that the batch is trained on; say so where MixNN does not happen."""
        if isinstance(targets, Tensor):
            if targets.dim() == 1 and not self._warned_of_plain_labels and is_a_loader_idle():
                self._warned_of_plain_labels = True
                warn_user(
                    "MixNNLoss got plain class indices in a training step, and there is a MixNNDataLoader that has "
                    "given no batch: this is plain cross-entropy. Something has made a plain DataLoader of the wrapped "
                    "one (make_private, skip_first_batches, DataLoader(loader.dataset, ...)); wrap what it returned, "
                    "and iterate the MixNNDataLoader itself"
                )
        elif targets.receipt is not None and (surprise := targets.receipt.sign(logits)) is not None:
            warn_user(_SURPRISES[surprise])

    def extra_repr(self) -> str:
        """Show the reduction in the module's representation."""
        return f"reduction={self.reduction!r}"


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
