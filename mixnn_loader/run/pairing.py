"""Who is whose neighbor in a loaded batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixnn_loader._utils.transfer import to_device
from mixnn_loader.method.mixing import mix


@dataclass(frozen=True)
class Pairing:
    """Which rows of a loaded batch are whose neighbors.

    Attributes:
        found: (B, K) bool, False for a neighbor that does not exist.
        places: (B, K+1) int64, of the originals (column 0) and of their neighbors among the B originals; None where
            the neighbors were loaded after the originals, those of one original next to each other.
    """

    found: Tensor
    places: Tensor | None

    @classmethod
    def among_originals(cls, found: Tensor, positions: Tensor) -> "Pairing":
        """Return the pairing of originals with each other, by the neighbors' positions (B, K)."""
        own = torch.arange(len(found), dtype=torch.int64, device=positions.device)
        return cls(found, torch.cat([own.unsqueeze(1), positions], dim=1))

    @property
    def positions(self) -> Tensor | None:
        """The neighbors' places among the originals, (B, K); None where they were loaded after them."""
        return None if self.places is None else self.places[:, 1:]

    def to(self, device: torch.device) -> "Pairing":
        """Return the pairing on a device."""
        return Pairing(to_device(self.found, device), None if self.places is None else to_device(self.places, device))

    def neighbors(self, rows: Tensor) -> Tensor:
        """Return the rows of the neighbors, (B, K, ...), of rows in loaded order."""
        if self.positions is not None:
            return rows[self.positions]
        return rows[len(self.found) :].reshape(*self.found.shape, *rows.shape[1:])

    def grouped(self, rows: Tensor) -> Tensor:
        """Return the rows of each sample (column 0) and of its neighbors, (B, K+1, ...), of rows in loaded order."""
        if self.places is not None:
            return rows[self.places]
        return torch.cat([rows[: len(self.found)].unsqueeze(1), self.neighbors(rows)], dim=1)

    def mixed(self, rows: Tensor, weights: Tensor) -> Tensor:
        """Mix rows in loaded order, (R, ...) -> (B, ...), by weights (B, K+1)."""
        return mix(rows[: len(weights)], self.neighbors(rows), weights)
