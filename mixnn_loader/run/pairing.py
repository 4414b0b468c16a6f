"""Who is whose neighbor in a loaded batch."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mixnn_loader.method.mixing import mix


@dataclass(frozen=True)
class Pairing:
    """Which rows of a loaded batch are whose neighbors.

    Attributes:
        found: (B, K) bool, False for a neighbor that does not exist.
        positions: (B, K) int64, the neighbors' places among the B originals; None where the neighbors were loaded
            after the originals, those of one original next to each other.
    """

    found: Tensor
    positions: Tensor | None

    def neighbors(self, rows: Tensor) -> Tensor:
        """Return the rows of the neighbors, (B, K, ...), of rows in loaded order."""
        if self.positions is not None:
            return rows[self.positions]
        return rows[len(self.found) :].reshape(*self.found.shape, *rows.shape[1:])

    def grouped(self, rows: Tensor) -> Tensor:
        """Return the rows of each sample (column 0) and of its neighbors, (B, K+1, ...)."""
        if self._with_own is not None:
            return rows[self._with_own]
        return torch.cat([rows[: len(self.found)].unsqueeze(1), self.neighbors(rows)], dim=1)

    @cached_property
    def _with_own(self) -> Tensor | None:
        """The places of the originals (column 0) and of their neighbors, (B, K+1), where these are originals, too."""
        if self.positions is None:
            return None
        own = torch.arange(len(self.found), dtype=torch.int64, device=self.positions.device)
        return torch.cat([own.unsqueeze(1), self.positions], dim=1)

    def mixed(self, rows: Tensor, weights: Tensor) -> Tensor:
        """Mix rows in loaded order, (R, ...) -> (B, ...), by weights (B, K+1)."""
        return mix(rows[: len(weights)], self.neighbors(rows), weights)
