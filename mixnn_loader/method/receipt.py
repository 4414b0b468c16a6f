"""Which batches have been trained on: the loss tells, by the receipt that travels with the targets of a batch."""

import weakref
from typing import Literal

from torch import Tensor

Surprise = Literal["replayed", "plain", "late"]
"""What is wrong with a batch that is trained on: it was before, or in its pass nothing is mixed, or that was over."""

LeftOut = Literal["idle", "unasked"]
"""What is the matter with a loader while a loss gets plain labels: it gives no batches, or they go without the loss."""


class Journal:
    """What the loss has seen of one loader's batches.

    Attributes:
        given: how many batches the loader has given to be trained on.
        loss_is_used: whether the loss was ever taken of one, with gradients.
        is_in_pass: whether a pass is running in which batches are trained on.
    """

    def __init__(self) -> None:
        self.given = 0
        self.is_in_pass = False
        self.loss_is_used = False
        self._told: set[Surprise] = set()
        self._last: Receipt | None = None
        _LIVING.add(self)

    def receipt(self, *, plain: bool = False) -> "Receipt":
        """Make the receipt of a batch that is given now.

        Args:
            plain: whether the batch is of a pass in which nothing is trained.
        """
        if not plain:
            self.given += 1
            self.is_in_pass = True
        return Receipt(self, plain=plain)

    def note(self, receipt: "Receipt") -> Surprise | None:
        """Note that the loss was taken of a batch; return what is wrong with that, the first time.

        Several losses of one batch, as with two heads or a closure, are one training step: only a batch that comes
        back after another is trained on again.
        """
        found: Surprise | None = None
        if receipt.plain:
            found = "plain"
        else:
            self.loss_is_used = True
            if receipt.trained_on and self._last is not receipt:
                found = "replayed"
            elif receipt.is_late and self._last is not None and self._last is not receipt and self._last.is_late:
                found = "late"  # one of them may be there to be learned by heart, to see that a model can learn
            self._last = receipt
        if found is None or found in self._told:
            return None
        self._told.add(found)
        return found


class Receipt:
    """Whether one batch has been trained on, and what the model said of it then.

    Attributes:
        trained_on: whether the loss was taken of it, with gradients.
        logits: (B, C), what the loss got when it was first taken; None before.
        plain: whether it is of a pass in which nothing is trained.
        is_late: whether its pass was over before the loss was taken: then it does not count.
    """

    def __init__(self, journal: Journal | None = None, *, plain: bool = False) -> None:
        self.trained_on = False
        self.logits: Tensor | None = None
        self.plain = plain
        self.is_late = False
        self._journal = journal

    def sign(self, logits: Tensor) -> Surprise | None:
        """Note that the loss has been taken; return what is wrong with that, once a loader.

        Args:
            logits: (B, C), of what.
        """
        found = None if self._journal is None else self._journal.note(self)
        self.trained_on = True
        if self.logits is None:
            self.logits = logits.detach().clone()  # what the caller does to them afterwards is not what was said
        return found

    def __reduce__(self) -> tuple[type["Receipt"], tuple[()]]:
        # A copy of a batch, as one sent to another process, is not the batch that the loader waits for.
        return Receipt, ()


_LIVING: weakref.WeakSet[Journal] = weakref.WeakSet()
"""The journals of all loaders of this process: plain labels in the loss are suspicious only while one stands by."""


ENOUGH = 3
"""Batches of a loader without its loss: in the first ones, the loss of another head may be taken before it."""


def left_out() -> LeftOut | None:
    """Say whether there is a loader that has given no batch so far, or one whose pass runs without the loss."""
    if any(journal.given == 0 for journal in _LIVING):
        return "idle"
    if any(journal.is_in_pass and journal.given >= ENOUGH and not journal.loss_is_used for journal in _LIVING):
        return "unasked"
    return None
