"""The method's hyper-parameters: their ranges, and what follows from them."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np

from mixnn_loader._utils.checks import check_choice, check_count, check_fraction
from mixnn_loader.neighbors import NeighborSearch

Neighbors = Literal["dataset", "batch", "random", "random-batch"]
Weighting = Literal["mixture", "uniform", "beta"]
Scan = Literal["epoch", "running"]
Phase = Literal["warm-up", "mixing", "correction"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Hyper-parameters of MixNN; `mixnn_loader.MixNNDataLoader` documents each.

    Raises:
        ValueError: an argument is outside its range.
    """

    num_neighbors: int
    warmup_epochs: int
    correction_epoch: int | None
    momentum: float
    neighbors: Neighbors
    neighbor_pool: int | None
    search: str | NeighborSearch
    weighting: Weighting
    scan: Scan
    scan_every: int | None
    seed: int

    def __post_init__(self) -> None:
        check_count("num_neighbors", self.num_neighbors)
        check_count("warmup_epochs", self.warmup_epochs)
        check_count("seed", self.seed)
        if self.correction_epoch is not None:
            check_count("correction_epoch", self.correction_epoch, 0, "None or an integer")
        check_fraction("momentum", self.momentum)
        check_choice("neighbors", self.neighbors, get_args(Neighbors))
        check_choice("weighting", self.weighting, get_args(Weighting))
        check_choice("scan", self.scan, get_args(Scan))
        if self.scan_every is not None:
            check_count("scan_every", self.scan_every, 1, "None or an integer")
        if self.neighbor_pool is not None:
            if self.neighbors != "dataset":
                raise ValueError(
                    f"neighbor_pool must be None with neighbors={self.neighbors!r}, got {self.neighbor_pool!r}; only "
                    "neighbors='dataset' has a pool"
                )
            check_count("neighbor_pool", self.neighbor_pool, 0, "None or an integer")
            if self.neighbor_pool < self.num_neighbors:
                raise ValueError(
                    f"neighbor_pool must be None or >= num_neighbors ({self.num_neighbors}), got {self.neighbor_pool}"
                )
        if self.search != "auto" and self.neighbors != "dataset":
            raise ValueError(
                f"search must be 'auto' with neighbors={self.neighbors!r}, got {self.search!r}; only "
                "neighbors='dataset' searches"
            )
        # NumPy's numbers are welcome, but not everything that these go to takes them.
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())

    @property
    def pool_size(self) -> int:
        """M: how many neighbors of each sample are searched and kept."""
        return self.num_neighbors if self.neighbor_pool is None else self.neighbor_pool

    @property
    def searches(self) -> bool:
        """Whether the neighbors are searched in the whole dataset."""
        return self.neighbors == "dataset" and self.num_neighbors > 0

    @property
    def pairs_in_batch(self) -> bool:
        """Whether the neighbors are other samples of the same mini-batch."""
        return self.neighbors in ("batch", "random-batch") and self.num_neighbors > 0

    @property
    def needs_representations(self) -> bool:
        """Whether the model's representations are needed at all."""
        return self.neighbors in ("dataset", "batch") and self.num_neighbors > 0

    @property
    def keeps_representations(self) -> bool:
        """Whether the representations met during an epoch are kept, for the next one's search."""
        return self.searches and self.scan == "running" and self.scan_every is None

    @property
    def scans_again(self) -> bool:
        """Whether there is more than one scan."""
        return self.scan == "epoch" or self.scan_every is not None

    def scans(self, epoch: int) -> bool:
        """Whether an epoch past warm-up starts with a scan of the dataset."""
        past_warmup = epoch - self.warmup_epochs
        if self.scan_every is not None:
            return past_warmup % self.scan_every == 0
        return self.scan == "epoch" or past_warmup == 0

    def phase(self, epoch: int) -> Phase:
        """Name what an epoch does; epochs are counted from 0 and include warm-up."""
        if epoch < self.warmup_epochs:
            return "warm-up"
        if self.correction_epoch is None or epoch < self.correction_epoch:
            return "mixing"
        return "correction"

    def check_dataset(self, num_samples: int) -> None:
        """Check that every sample can have its neighbors.

        Raises:
            ValueError: there are too few samples.
        """
        name = "num_neighbors" if self.neighbor_pool is None else "neighbor_pool"
        if num_samples <= self.pool_size:
            raise ValueError(
                f"{name} must be smaller than the number of training samples ({num_samples}), got {self.pool_size}"
            )
