"""How many of those that were looked at are of some kind: on one process, and on all."""

from collections.abc import Callable

import torch
from torch import Tensor

from mixnn_loader._utils.transfer import to_device


class Tally:
    """Counts beside the model, which nobody waits for until their share is asked for.

    Args:
        state: what `state` returned; None: nothing has been counted.
    """

    def __init__(self, state: Tensor | None = None) -> None:
        nothing = torch.zeros(2, 2, dtype=torch.float32, device="cpu")
        self._own, self._of_all = (nothing if state is None else state.cpu().clone()).unbind()

    def add(self, counts: Tensor) -> None:
        """Count some more.

        Args:
            counts: (2,) float, those of the kind, and all.
        """
        self._own = to_device(self._own, counts.device) + counts

    def add_up(self, over_processes: Callable[[Tensor], Tensor]) -> None:
        """Replace the counts of this process by those of all.

        Args:
            over_processes: sums a tensor over the processes.
        """
        self._of_all = self._of_all + over_processes(self._own).cpu()
        self._own = torch.zeros_like(self._own)

    def share(self) -> float | None:
        """Return the share of those of the kind; None where nothing was counted. This waits for the device."""
        some, total = (self._own.cpu() + self._of_all).tolist()
        return some / total if total > 0 else None

    def state(self) -> Tensor:
        """Return the counts of this process and those of all, (2, 2) float32 on the CPU."""
        return torch.stack([self._own.cpu(), self._of_all])
