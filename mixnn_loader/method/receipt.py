"""Which batches have been trained on: the loss tells, by the receipt that travels with the targets of a batch."""

import weakref


class Journal:
    """What the loss has seen of one loader's batches.

    Attributes:
        given: whether the loader has given a batch.
        loss_is_used: whether the loss was ever taken of one, with gradients.
    """

    def __init__(self) -> None:
        self.given = False
        self.loss_is_used = False
        self._replayed = False
        self._last: Receipt | None = None
        _LIVING.add(self)

    def receipt(self) -> "Receipt":
        """Make the receipt of a batch that is given now."""
        self.given = True
        return Receipt(self)

    def note(self, receipt: "Receipt") -> bool:
        """Note that the loss was taken of a batch; return whether it is the first that is trained on again.

        Several losses of one batch, as with two heads or a closure, are one training step: only a batch that comes
        back after another is trained on again.
        """
        self.loss_is_used = True
        is_first_replay = receipt.trained_on and self._last is not receipt and not self._replayed
        self._replayed |= is_first_replay
        self._last = receipt
        return is_first_replay


class Receipt:
    """Whether one batch has been trained on.

    Attributes:
        trained_on: whether the loss was taken of it, with gradients.
    """

    def __init__(self, journal: Journal | None = None) -> None:
        self.trained_on = False
        self._journal = journal

    def sign(self) -> bool:
        """Note that the loss has been taken; return whether the loader should be told of a replay, which is once."""
        is_first_replay = self._journal is not None and self._journal.note(self)
        self.trained_on = True
        return is_first_replay

    def __reduce__(self) -> tuple[type["Receipt"], tuple[()]]:
        # A copy of a batch, as one sent to another process, is not the batch that the loader waits for.
        return Receipt, ()


_LIVING: weakref.WeakSet[Journal] = weakref.WeakSet()
"""The journals of all loaders of this process: plain labels in the loss are suspicious only while one stands by."""


def is_a_loader_idle() -> bool:
    """Whether this process has a loader that has given no batch so far."""
    return any(not journal.given for journal in _LIVING)
