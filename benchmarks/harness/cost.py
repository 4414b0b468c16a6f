"""Counts what a method computes, in units that do not depend on the machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor


class Meter:
    """Counts samples that go forward and backward through networks.

    A sample's forward pass costs 1, its backward pass 2: a plain training costs 3 a sample and epoch.

    Attributes:
        forward: samples that went forward.
        backward: samples that went backward.
    """

    def __init__(self) -> None:
        self.forward = 0
        self.backward = 0
        self._is_paused = False

    @property
    def units(self) -> int:
        """What has been computed, in forward passes of one sample."""
        return self.forward + 2 * self.backward

    def count(self, representations: Tensor) -> None:
        """Count a pass whose representations (B, ...) have just been computed, and the one back when it comes."""
        if self._is_paused:
            return
        self.forward += len(representations)
        if representations.requires_grad:
            tensor: Any = representations  # torch has no types for this method
            tensor.register_hook(self._count_backward)

    def _count_backward(self, gradients: Tensor) -> None:
        self.backward += len(gradients)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing that starts meanwhile: what only the harness wants to know."""
        was_paused, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = was_paused
