"""The indices of a batch: on the host, and on whichever device they are needed."""

from functools import cached_property

import torch
from torch import Tensor

from mixnn_loader._utils.transfer import to_device


class BatchIndices:
    """Which rows of something a batch is of: samples of a dataset, or places.

    They travel once to a device, however often they are needed there.

    Args:
        host: (B,) int64 on the CPU.
        sent: the same on another device, if they are there already.

    Attributes:
        host: as above.
    """

    def __init__(self, host: Tensor, sent: Tensor | None = None) -> None:
        self.host = host
        self._sent: dict[torch.device, Tensor] = {host.device: host}
        if sent is not None:
            self._sent.setdefault(sent.device, sent)

    def __len__(self) -> int:
        """Return B."""
        return len(self.host)

    def on(self, device: torch.device) -> Tensor:
        """Return them on ``device``, (B,) int64."""
        if device not in self._sent:
            self._sent[device] = to_device(self.host, device)
        return self._sent[device]

    @cached_property
    def first(self) -> "BatchIndices | None":
        """Where in the batch each of its samples stands for the first time, (B,); None where none is in it twice.

        Example:
            >>> BatchIndices(torch.tensor([7, 3, 7])).first.host
            tensor([0, 1, 0])
        """
        places: dict[int, int] = {}
        first = [places.setdefault(index, place) for place, index in enumerate(self.host.tolist())]
        return None if len(places) == len(first) else BatchIndices(torch.tensor(first, dtype=torch.int64, device="cpu"))

    @cached_property
    def counts(self) -> Tensor | None:
        """How often the sample of each place is in the batch, (B,) int64 on the CPU; None where each is once."""
        if self.first is None:
            return None
        return torch.bincount(self.first.host, minlength=len(self))[self.first.host]
