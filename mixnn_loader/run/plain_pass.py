"""A pass in which nothing is trained: the same batches, unmixed, and nothing is written down."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from mixnn_loader.checkpoint.position import indices_of
from mixnn_loader.data.indexed import NeighborBatchSampler, rebuilt
from mixnn_loader.data.user_loader import is_endless_by_design, length_of
from mixnn_loader.method.batch import MixNNBatch
from mixnn_loader.run.parts import Parts


class PlainPasses:
    """Iterates the user's batches as they are.

    It has a loader, and with it workers, of its own: a pass may be made in the middle of a training pass.

    Args:
        parts: what all passes share.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._loader: DataLoader[Any] | None = None

    def batches(self) -> Iterator[MixNNBatch]:
        """Yield every batch, with one-hot targets of weight one."""
        parts = self._parts
        if self._loader is None:
            sampler = NeighborBatchSampler(_EveryBatch(parts.wrapped), parts.settings.seed)
            self._loader = rebuilt(parts.wrapped, parts.wrapped.dataset, batch_sampler=sampler)
        for received in parts.receiver.in_turn(self._loader, parts.view.device):
            # What is made for the first time must be fit for training, whatever mode this pass is in.
            with torch.inference_mode(mode=False), torch.no_grad():
                outbox = [parts.mixer.plain(received)]
            del received
            yield outbox.pop()


class _EveryBatch:
    """The user's batches, numbered."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader

    def __len__(self) -> int:
        batch_sampler: Any = self._loader.batch_sampler
        return len(batch_sampler)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        batch_sampler: Any = self._loader.batch_sampler
        length = length_of(self._loader) if is_endless_by_design(self._loader) else None
        for number, batch in enumerate(batch_sampler):
            if number == length:
                return
            yield number, indices_of(batch)
